//! Programs of others that do the same jobs, on the same engines, topics and records: `make bench-peers`.
//!
//! Each is as lean as its users could make it, and is measured as ours are: from outside, by what came out of Kafka. What a
//! JVM needs to become fast is over before its clock runs, and TensorFlow's start too; both say so where they do it, in
//! `crates/testkit/peers`. `install.sh` there brings the programs; what it has not brought is left out, and the table says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use telltale_testkit::soak::ports::Ports;
use telltale_testkit::soak::process::Supervised;

use crate::figures::{Job, Sample};
use crate::filled::Filled;
use crate::load::Fleet;
use crate::measure::{Extent, transactions, until_done};
use crate::place::{PLAIN, Place};
use crate::report::{Goal, Rounds};
use crate::rounds::{check, publish, start_load};
use crate::settings::Settings;

mod learning;

use learning::{keras, trainer};

/// Where the scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// The trainer goes over its rows so many times as often as its `--epochs` say.
const TURNS: u32 = 2;
/// With a decoder of its own, tensorflow-io's reader gets so many times the rows in about the same time.
const FASTAVRO: u64 = 10;
/// Time between two messages that ask Telegraf whether it listens.
const PROBE: Duration = Duration::from_millis(500);

/// How peers are measured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Peers")]
pub(crate) struct Flags {
    /// Folder where crates/testkit/peers/install.sh has put the peers
    #[arg(long, env = "TELLTALE_PEERS", default_value_os_t = cache(), value_name = "DIR")]
    pub(crate) peers: PathBuf,

    /// Put Debian's mosquitto in the place of the MQTT broker
    #[arg(long)]
    pub(crate) mosquitto: bool,

    /// Records that a JVM moves before it is measured
    #[arg(long, default_value = "2000000", value_name = "RECORDS")]
    pub(crate) warm_up: u64,

    /// Rows that our trainer and Keras with a decoder of its own learn from
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u64).range(10_000..))]
    pub(crate) rows: u64,

    /// Rows that TensorFlow I/O reads in each pass, and a tenth of those with a decoder of its own
    #[arg(long, default_value = "1000", value_name = "ROWS", value_parser = clap::value_parser!(u64).range(200..))]
    pub(crate) tensorflow_rows: u64,

    /// Passes over the rows; an odd number becomes the even one below it
    #[arg(long, default_value = "20", value_name = "PASSES", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(crate) passes: u32,
}

impl Flags {
    /// Passes over the rows, of which the trainer makes as many before it has weeded the rows out as after.
    fn passes(&self) -> u32 {
        self.passes / TURNS * TURNS
    }
}

/// The folder that install.sh takes if none is named.
fn cache() -> PathBuf {
    // Nothing else reads the environment; a bench without a home folder finds no peers.
    std::env::home_dir().unwrap_or_default().join(".cache/telltale/peers")
}

/// What install.sh installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Kafka Streams, with ONNX Runtime.
    Streams,
    /// Telegraf.
    Telegraf,
    /// TensorFlow, Keras, tensorflow-io.
    Python,
}

impl Peer {
    /// All, with the names of tables and of install.sh.
    pub(crate) const ALL: [(Self, &str, &str); 3] = [
        (Self::Streams, "Kafka Streams", "streams"),
        (Self::Telegraf, "Telegraf", "telegraf"),
        (Self::Python, "TensorFlow I/O, Keras", "python"),
    ];

    /// The one that a job is of, or is compared with only.
    pub(crate) fn of(job: Job) -> Option<Self> {
        match job {
            Job::StreamsConvert | Job::StreamsScore => Some(Self::Streams),
            Job::Telegraf => Some(Self::Telegraf),
            Job::Tensorflow | Job::TensorflowReads | Job::Fastavro => Some(Self::Python),
            Job::Keras | Job::KerasReads => Some(Self::Python),
            Job::LearnSmall | Job::LearnLarge => Some(Self::Python),
            _ => None,
        }
    }

    /// Whether it is in the folder of peers.
    pub(crate) fn is_installed(self, folder: &Path) -> bool {
        let file = match self {
            Self::Streams => "streams/target/streams-1.jar",
            Self::Telegraf => "bin/telegraf",
            Self::Python => "python/bin/fastavro",
        };
        folder.join(file).is_file()
    }
}

/// Ours against each peer, by records per CPU second, and what it is to be.
pub(crate) const COMPARED: [(&str, Job, Job, Goal); 8] = [
    ("bridge / Telegraf", Job::Bridge, Job::Telegraf, Goal::AtLeast(6.0)),
    ("preprocessor / Kafka Streams", Job::Preprocessor, Job::StreamsConvert, Goal::AtLeast(6.0)),
    ("scorer / Kafka Streams with ONNX Runtime", Job::Scorer, Job::StreamsScore, Goal::AtLeast(10.0)),
    ("trainer / TensorFlow I/O with Keras", Job::LearnSmall, Job::Tensorflow, Goal::AtLeast(300.0)),
    ("trainer / KafkaDataset, fastavro, Keras", Job::LearnLarge, Job::Fastavro, Goal::AtLeast(30.0)),
    ("trainer / Keras on an array, the fastest", Job::LearnLarge, Job::Keras, Goal::AtLeast(30.0)),
    (
        "trainer reading / TensorFlow I/O reading",
        Job::TrainerReads,
        Job::TensorflowReads,
        Goal::AtLeast(300.0),
    ),
    ("trainer reading / fastavro into an array", Job::TrainerReads, Job::KerasReads, Goal::AtLeast(1.0)),
];

/// Where each peer is among the jobs, or why it is not.
pub(crate) fn state(settings: &Settings, rounds: &Rounds) -> BTreeMap<&'static str, String> {
    let of = |(peer, name, part): (Peer, &'static str, &str)| {
        let state = if rounds.keys().any(|it| Peer::of(*it) == Some(peer)) {
            "measured".to_owned()
        } else if peer.is_installed(&settings.peers.peers) {
            "not asked for: make bench-peers".to_owned()
        } else {
            format!("not installed: crates/testkit/peers/install.sh {part}")
        };
        (name, state)
    };
    Peer::ALL.map(of).into()
}

/// Starts the mosquitto that install.sh took out of Debian's packages, and says where it listens.
pub(crate) fn mosquitto(
    settings: &Settings,
    ports: &mut Ports,
    folder: &Path,
) -> Result<(Supervised, SocketAddr)> {
    let root = settings.peers.peers.join("mosquitto/usr");
    let program = root.join("sbin/mosquitto");
    ensure!(program.is_file(), "mosquitto is not installed: crates/testkit/peers/install.sh mosquitto");
    let libraries = root.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH));
    let port = ports.one()?;
    // Without limits of its own, nothing is dropped and the subscriber's window is the one that counts.
    let conf = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
         max_inflight_messages 0\nset_tcp_nodelay true\nuser root\n"
    );
    crate::place::write(folder, "mosquitto.conf", &conf)?;
    let command = [
        "env".to_owned(),
        format!("LD_LIBRARY_PATH={}", libraries.display()),
        program.display().to_string(),
        "-c".to_owned(),
        folder.join("mosquitto.conf").display().to_string(),
    ];
    let mut process = Supervised::new("mosquitto", command.into(), folder);
    process.start().context("starting mosquitto")?;
    Ok((process, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Measures a job of a peer, or ours beside it; those that read and learn give two.
pub(crate) fn measure(
    place: &mut Place,
    job: Job,
    round: u32,
    json: &Filled,
    avro: &Filled,
) -> Result<Vec<(Job, Sample)>> {
    let sample = match job {
        Job::StreamsConvert => streams(place, "convert", round, json)?,
        Job::StreamsScore => streams(place, "score", round, avro)?,
        Job::Telegraf => telegraf(place, &format!("telegraf-{round}"))?,
        Job::LearnSmall | Job::LearnLarge => trainer(place, job, round, avro)?,
        Job::Tensorflow | Job::TensorflowReads => {
            let rows = place.settings.peers.tensorflow_rows;
            let [reading, whole] = keras(place, Job::Tensorflow, "tensorflow-io", rows, round, avro)?;
            return Ok(vec![(Job::TensorflowReads, reading), (Job::Tensorflow, whole)]);
        }
        Job::Fastavro => {
            let rows = FASTAVRO * place.settings.peers.tensorflow_rows;
            keras(place, job, "fastavro", rows, round, avro)?[1]
        }
        _ => {
            let rows = place.settings.peers.rows;
            let [reading, whole] = keras(place, Job::Keras, "array", rows, round, avro)?;
            return Ok(vec![(Job::KerasReads, reading), (Job::Keras, whole)]);
        }
    };
    Ok(vec![(job, sample)])
}

/// Starts a script or program of a peer.
fn start(place: &Place, name: &str, command: &[&str]) -> Result<Supervised> {
    let command = command.iter().map(|&it| it.to_owned()).collect();
    let mut process = Supervised::new(name, command, &place.folder);
    process.start().with_context(|| format!("starting {name}"))?;
    Ok(process)
}

/// A file of the installed peers, as an argument.
fn installed(place: &Place, file: &str) -> String {
    place.settings.peers.peers.join(file).display().to_string()
}

fn streams(place: &mut Place, job: &str, round: u32, source: &Filled) -> Result<Sample> {
    let name = format!("streams-{job}-{round}");
    let (to, warm_to) = (place.topic(&name, PLAIN)?, place.topic(&format!("{name}-warm"), PLAIN)?);
    let model = place.path("model.onnx");
    if job == "score" && !Path::new(&model).exists() {
        let python = installed(place, "python/bin/python");
        let script = format!("{SCRIPTS}/streams/model.py");
        let flags = ["--kafka", &place.kafka.bootstrap, "--model", &place.id, "--out", &model];
        place.finish(start(
            place,
            "model",
            &[&[python.as_str(), script.as_str()][..], &flags[..]].concat(),
        )?)?;
    }
    let group = format!("{}-{name}", place.id);
    let records = source.records.to_string();
    let warm_up = place.settings.peers.warm_up.to_string();
    let mut process = start(
        place,
        &name,
        &[
            &format!("{SCRIPTS}/streams.sh"),
            &installed(place, ""),
            job,
            "--kafka",
            &place.kafka.bootstrap,
            "--from",
            &source.topic,
            "--to",
            &to,
            "--warm-to",
            &warm_to,
            "--group",
            &group,
            "--records",
            &records,
            "--warm-up",
            &warm_up,
            "--state",
            &place.path(&name),
            "--model",
            &model,
        ],
    )?;
    let sample = transactions(place, &mut process, &group, source)?;
    process.kill();
    check(place, &to, source.records)?;
    place.delete(&to)?;
    place.delete(&warm_to)?;
    Ok(sample)
}

fn telegraf(place: &mut Place, name: &str) -> Result<Sample> {
    let (from, to) = (format!("{}/{name}", place.id), place.topic(name, PLAIN)?);
    let (mqtt, client_id) = (place.mqtt.to_string(), format!("{}-{name}", place.id));
    // It wants a list where others want commas; one broker is enough to find the rest.
    let kafka = place.kafka.bootstrap.split(',').next().unwrap_or_default().to_owned();
    let again = |place: &Place| {
        let program = installed(place, "bin/telegraf");
        let script = format!("{SCRIPTS}/telegraf.sh");
        let filter = format!("{from}/+");
        start(
            place,
            name,
            &[
                &script,
                "--mqtt",
                &mqtt,
                "--kafka",
                &kafka,
                "--program",
                &program,
                "--filter",
                &filter,
                "--levels",
                "_/_/car",
                "--topic",
                &to,
                "--client-id",
                &client_id,
            ],
        )
    };
    // It says when it has connected, not when it has subscribed: so it is asked until it answers.
    let process = again(place)?;
    let extent = Extent::of(place, &to)?;
    let Settings { cars, seed, .. } = place.settings;
    let mut probe = 0;
    place.until_each(PROBE, "Telegraf listens", || {
        let fleet = Fleet { cars, seed, messages: 1, rate: None };
        place.finish(start_load(place, &format!("{name}-probe-{probe}"), &from, &fleet)?)?;
        probe += 1;
        Ok((extent.records()? > 0).then_some(()))
    })?;
    place.end(process)?;
    let before = extent.records()?;
    publish(place, name, &from)?;
    let mut process = again(place)?;
    let messages = place.settings.messages;
    let sample = until_done(place, &mut process, messages, || Ok(extent.records()?.saturating_sub(before)))?;
    place.end(process)?;
    place.delete(&to)?;
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::learning::batch;
    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn passes_are_even_as_the_trainer_makes_them_in_two_turns() {
        for (asked, passes) in [("2", 2), ("5", 4), ("20", 20)] {
            let flags = Command::try_parse_from(["it", "--passes", asked]).unwrap().flags;
            assert_eq!(flags.passes(), passes);
        }
    }

    #[test]
    fn jobs_of_peers_are_compared_with_ours_and_have_somebody_to_install() {
        for (what, ours, peer, _) in COMPARED {
            assert!(Peer::of(peer).is_some(), "{what}");
            assert!(Peer::of(ours).is_none() || batch(ours) == batch(peer), "{what}");
        }
        let script = include_str!("../../peers/install.sh");
        for (peer, _, part) in Peer::ALL {
            assert!(script.contains(&format!("{part}() {{")), "{part}");
            assert!(!peer.is_installed(Path::new("/nowhere")));
        }
    }
}
