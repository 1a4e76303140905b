//! `telltale verify`: reads everything back and says whether it adds up.

use telltale_embedded::Engines;
use telltale_kafka::{KafkaConfig, RegistryConfig};
use telltale_records::topics;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::{Connection, VerifyArgs};
use crate::commands::engines;
use crate::demo::folder::Folder;
use crate::output::Output;
use crate::simulator_files::Ledgers;
use crate::verify::read::{Check, Found};
use crate::verify::show;
use crate::view::balance::violations;
use crate::view::numbers::{figure, grouped, percent};

/// Checks and prints what was found.
///
/// # Errors
///
/// Returns an error when something does not hold, or could not be checked.
pub fn run(args: &VerifyArgs, out: &mut Output, stop: &CancellationToken) -> Result<(), Error> {
    let check = |kafka: &KafkaConfig, registry: &RegistryConfig, ledgers| -> Result<_, Error> {
        let (checks, drained) = (&args.checks, args.drained);
        let check = Check { kafka, registry, checks, drained, ledgers, since: None, only_since: false, stop };
        let found = check.run()?;
        let records = show::records(&found.report, kafka, registry, stop)?;
        Ok((found, records))
    };
    let (found, records) = match &args.data {
        Some(data) => {
            let folder = Folder::of_earlier(data)?;
            let engines: Engines = engines::start(engines::free_ports(Some(folder.engines())))?;
            let kafka = KafkaConfig::at(engines.kafka_addr().to_string());
            let registry = RegistryConfig::at(engines.registry_url());
            check(&kafka, &registry, Some(Ledgers::read(&folder.simulator())?))?
        }
        None => {
            let Connection { kafka, registry } = &args.connection;
            check(kafka, registry, args.ledger.as_deref().map(Ledgers::read).transpose()?)?
        }
    };
    out.text(text(&found))?;
    if !records.is_empty() {
        out.line("\nthe records")?;
    }
    for record in &records {
        out.line(record)?;
    }
    match found.report.faults {
        0 => Ok(()),
        faults => Err(Error::Violations { faults }),
    }
}

/// What was found, as lines for a person.
fn text(found: &Found) -> String {
    let mut text = String::new();
    let mut line = |it: String| {
        text.push_str(&it);
        text.push('\n');
    };
    if let Some((acknowledged, missing)) = found.acknowledged {
        let (acknowledged, missing) = (grouped(acknowledged), grouped(missing));
        line(format!(
            "acknowledged to the cars: {acknowledged} readings, {missing} of them not in sensor-data"
        ));
    }
    if let Some((acknowledged, missing)) = found.killed {
        line(format!(
            "acknowledged in runs that were killed: {} readings, {} of them not in sensor-data \
             (the embedded MQTT broker keeps what it has taken over in memory)",
            grouped(acknowledged),
            grouped(missing),
        ));
    }
    for topic in &found.report.topics {
        line(format!(
            "{}: {} records, {} with an outcome, {} on their way, {} lost, {} outcomes too many",
            topic.topic,
            grouped(topic.records),
            grouped(topic.answered),
            grouped(topic.pending),
            grouped(topic.lost),
            grouped(topic.duplicated),
        ));
    }
    line(format!("{} predictions, {} dead letters", grouped(found.predictions), grouped(found.dead_letters)));
    if let (Some(auc), Some(rate)) = (found.evaluation.auc, found.evaluation.false_alarm_rate) {
        line(format!("against the truth: AUC {}, false alarms {}", figure(auc), percent(rate)));
    }
    if let Some(replayed) = found.replayed {
        line(format!("{} readings came again in {}", grouped(replayed), topics::SENSOR_DATA));
    }
    let it = found.recomputed;
    if it.compared + it.gone > 0 {
        line(format!(
            "{} predictions recomputed from their models and readings, {} of them as machines round that are not like this \
             one; of {} the model or the reading is gone",
            grouped(it.compared),
            grouped(it.other_rounding),
            grouped(it.gone)
        ));
    }
    if found.open {
        line("transactions stayed open: what lies behind them was not looked at".to_owned());
    }
    if !found.recounted {
        line(format!("the rows of {} are not the cars': not recounted", topics::EVENTS_PER_5MIN));
    }
    if found.report.faults == 0 {
        line("each record has exactly one outcome, in order, by models that never went back".to_owned());
    }
    text.push_str(&violations(&found.report));
    text
}
