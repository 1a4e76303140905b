//! What a publisher makes of what others published.

use telltale_kafka::producer::NewRecord;
use telltale_kafka::topics::Topics;
use telltale_records::manifest::Manifest;
use telltale_testkit::{Engines, Writer};

use super::*;

fn manifest(version: u64, generation: u64) -> Manifest {
    Manifest {
        name: "cars".to_owned(),
        version,
        generation,
        kind: "autoencoder".to_owned(),
        sha256: "0".repeat(64),
        size: 1,
        chunks: 1,
        created_ms: 0,
        rows: 100,
        seconds: 1.0,
        threshold: 1.0,
        false_alarm_rate: 0.01,
        seed: 7,
        code_version: "0.1.0".to_owned(),
        ranges: Vec::new(),
        pinned: false,
    }
}

/// A trainer that was asked to stop while it read which numbers were taken once gave them out again.
#[test]
fn numbers_that_a_shutdown_cut_short_count_for_nothing() {
    let engines = Engines::start();
    let kafka = engines.kafka();
    Topics::open(&kafka).unwrap().create_all(1, 1).unwrap();
    let (shutdown, signer) = (Shutdown::new(), Signer::generate().unwrap());
    let writer = Writer::new(&kafka);
    for (version, generation) in [(1, 1), (2, 2), (1, 3)] {
        let signed = telltale_model::artifact::sign(&manifest(version, generation), &signer);
        let record = delivery::manifest_record("cars", &signed);
        let (key, value) = (Some(&record.key[..]), Some(&record.value[..]));
        writer.send(NewRecord { topic: topics::MODELS, key, value, ..NewRecord::default() });
    }
    writer.flush();
    let patience = Duration::from_secs(30);
    let publisher = Publisher::open(&kafka, "cars", signer, None, patience, &shutdown).unwrap();
    let found = publisher.unpinned(&shutdown).unwrap();
    assert_eq!(found, Numbers { version: 2, generation: 3, pinned: None });
    shutdown.request();
    let cut_short = publisher.unpinned(&shutdown).unwrap_err();
    assert!(matches!(cut_short, Error::Stopped { .. }), "{cut_short}");
}
