//! The pipeline as users run it beyond one machine: each service a process of its own, between engines of either kind.

mod support;

use std::collections::VecDeque;
use std::path::Path;

use support::{succeed, telltale};
use telltale_records::prediction::Prediction;
use telltale_records::{framing, topics};
use telltale_testkit::{Engines, Process, Written, extent, wait_until, written};

/// What the processes share.
struct Fleet<'a> {
    engines: &'a Engines,
    folder: &'a Path,
    bridge_id: String,
}

impl Fleet<'_> {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn start(&self, service: &str, more: &[&str]) -> Process {
        let engines = self.engines;
        let reach = match service {
            "simulator" => engines.mqtt_flags(),
            "bridge" => [engines.mqtt_flags(), engines.kafka_flags()].concat(),
            _ => [engines.kafka_flags(), engines.registry_flags()].concat(),
        };
        let (signing, verifying) = (self.path("signing-key.pem"), self.path("verifying-key.pem"));
        let own: &[&str] = match service {
            "bridge" => &["--mqtt-client-id", &self.bridge_id, "--session-expiry", "5m"],
            "preprocessor" => &["--workers", "2", "--static-member", "--max-records", "200"],
            "trainer" => {
                &["--signing-key", &signing, "--first-rows", "600", "--min-interval", "0s", "--growth", "2"]
            }
            "scorer" => &["--trusted-key", &verifying, "--static-member", "--max-records", "200"],
            _ => &["--cars", "60", "--rate", "4"],
        };
        let common = [service, "--http", "127.0.0.1:0"];
        let flags = common.iter().chain(own).chain(more).map(|&it| it.to_owned());
        let flags: Vec<String> = flags.chain(reach).collect();
        Process::start(env!("CARGO_BIN_EXE_telltale"), &flags)
    }

    /// Cars that write a ledger with this name.
    fn cars(&self, name: &str) -> Process {
        let ledger = self.path(&format!("ledgers/{name}.csv"));
        self.start("simulator", &["--ledger", &ledger])
    }

    fn verify(&self) -> std::process::Output {
        let ledgers = self.path("ledgers");
        let flags = ["verify", "--drained", "--ledger", &ledgers].map(str::to_owned);
        let flags = [&flags[..], &self.engines.kafka_flags(), &self.engines.registry_flags()].concat();
        telltale(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn version(prediction: &Written) -> i64 {
    let (_, payload) = framing::split(prediction.value()).unwrap();
    Prediction::read(payload).unwrap().model_version
}

#[test]
fn each_service_is_killed_once_and_everything_adds_up() {
    let engines = Engines::fresh(4);
    let kafka = engines.kafka();
    let folder = tempfile::tempdir().unwrap();
    succeed(&["keys", "generate", "--out", folder.path().to_str().unwrap()]);
    std::fs::create_dir(folder.path().join("ledgers")).unwrap();
    let fleet = Fleet { engines: &engines, folder: folder.path(), bridge_id: engines.name("bridge") };
    let more_in = |topic: &str, records: i64| {
        let before = extent(&kafka, topic);
        wait_until(&format!("{topic} grows"), || extent(&kafka, topic) >= before + records);
    };

    let mut bridge = fleet.start("bridge", &[]);
    bridge.wait_until_ready(); // from now on the broker holds its session
    let mut services =
        VecDeque::from(["preprocessor", "trainer", "scorer"].map(|it| (it, fleet.start(it, &[]))));
    let cars = fleet.cars("first");
    wait_until("a model is in force", || extent(&kafka, topics::PREDICTIONS) > 0);
    let metrics = bridge.get("/metrics").unwrap();
    assert!(metrics.contains("telltale_bridge_records_delivered_total"), "{metrics}");

    more_in(topics::SENSOR_DATA, 200);
    bridge.kill();
    let bridge = fleet.start("bridge", &[]);
    for target in [topics::CLEAN, topics::MODELS, topics::PREDICTIONS] {
        more_in(target, 1);
        let (name, process) = services.pop_front().unwrap();
        process.kill();
        services.push_back((name, fleet.start(name, &[])));
        more_in(target, 1);
    }
    cars.kill();
    let cars = fleet.cars("second");
    more_in(topics::PREDICTIONS, 500);

    // Going back to an older model is no fault of the order of versions.
    let trainer = services.iter().position(|(name, _)| *name == "trainer").unwrap();
    services.remove(trainer).unwrap().1.stop();
    let rollback =
        ["models", "rollback", "1", "--signing-key", &fleet.path("signing-key.pem")].map(str::to_owned);
    let rollback = [&rollback[..], &engines.kafka_flags(), &engines.registry_flags()].concat();
    succeed(&rollback.iter().map(String::as_str).collect::<Vec<_>>());
    wait_until("version 1 scores again", || {
        let predictions = written(&kafka, topics::PREDICTIONS);
        predictions.windows(2).any(|it| {
            let same_partition = it[0].source.partition == it[1].source.partition;
            same_partition && version(&it[0]) > 1 && version(&it[1]) == 1
        })
    });
    cars.stop();
    // Everything acknowledged has left the broker, or is about to: `verify` then asks for all of it.
    for name in ["first", "second"] {
        std::fs::write(folder.path().join(format!("ledgers/{name}.drained")), "").unwrap();
    }
    wait_until("nothing is on its way", || fleet.verify().status.success());
    bridge.stop();
    services.into_iter().for_each(|(_, it)| it.stop());

    let output = fleet.verify();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("0 on their way, 0 lost, 0 outcomes too many"), "{text}");
    assert!(text.contains("readings, 0 of them not in sensor-data"), "{text}");
    let versions = written(&kafka, topics::MODELS_AUDIT);
    assert!(versions.len() >= 2, "the trainer went on after it was killed");
}
