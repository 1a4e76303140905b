//! A small made-up fleet, quick to train on.
#![allow(dead_code, reason = "each test program uses another part")]

use telltale_features::Specification;
use telltale_model::{Lineage, Release, Rows, Signer, Trained, Trainer, TrainingConfig, device_hash};
use telltale_records::manifest::OffsetRange;

/// Four sensors that follow two hidden quantities, and one label nobody looks at.
pub(crate) const FEATURES: &str = r#"
[label]
column = "BROKEN"
failing = "true"
[[feature]]
column = "A"
[[feature]]
column = "B"
[[feature]]
column = "C"
scale = "robust"
[[feature]]
column = "D"
"#;

pub(crate) const COLUMNS: usize = 4;

/// Readings with what [`Rows`] needs, owned.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings {
    pub(crate) values: Vec<f32>,
    pub(crate) devices: Vec<u64>,
    pub(crate) times_ms: Vec<i64>,
}

impl Readings {
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows { values: &self.values, devices: &self.devices, times_ms: &self.times_ms, failing: &[] }
    }

    /// The readings at `order`.
    pub(crate) fn chosen(&self, order: &[usize]) -> Self {
        Self {
            values: order.iter().flat_map(|it| &self.values[it * COLUMNS..][..COLUMNS]).copied().collect(),
            devices: order.iter().map(|it| self.devices[*it]).collect(),
            times_ms: order.iter().map(|it| self.times_ms[*it]).collect(),
        }
    }
}

/// A reading each second of each device.
pub(crate) fn readings(devices: u64, seconds: i64) -> Readings {
    let mut readings = Readings::default();
    for device in 0..devices {
        for second in 0..seconds {
            readings.values.extend(reading(device, second));
            readings.devices.push(device_hash(format!("device-{device}").as_bytes()));
            readings.times_ms.push(second * 1000);
        }
    }
    readings
}

pub(crate) fn reading(device: u64, second: i64) -> [f32; COLUMNS] {
    let hash = device_hash(&[device.to_le_bytes(), second.to_le_bytes()].concat());
    let noise = |shift: u32| ((hash >> shift) & 0xFFFF) as f32 / 65536.0 - 0.5;
    let phase = device as f32 + second as f32 * 0.1;
    let (load, heat) = (phase.sin(), (phase * 0.37).cos());
    [
        10.0 + 3.0 * load + 0.2 * noise(0),
        50.0 + 8.0 * load + 4.0 * heat + 0.6 * noise(16),
        heat * heat + 0.05 * noise(32),
        100.0 * heat - 30.0 * load + 3.0 * noise(48),
    ]
}

pub(crate) fn specification() -> Specification {
    Specification::parse("test.toml", FEATURES).unwrap()
}

pub(crate) fn config() -> TrainingConfig {
    TrainingConfig {
        hidden: vec![6, 3],
        epochs: 6,
        visits: 20_000,
        capacity: 5000,
        ..TrainingConfig::default()
    }
}

pub(crate) fn trainer(seed: u64) -> Trainer {
    Trainer::new(specification(), config(), seed).unwrap()
}

pub(crate) fn trained(seed: u64) -> Trained {
    let mut trainer = trainer(seed);
    trainer.feed(&readings(40, 30).rows()).unwrap();
    trainer.finish(lineage()).unwrap()
}

pub(crate) fn lineage() -> Lineage {
    let range = |partition| OffsetRange { topic: "readings".into(), partition, from: 0, to: 600 };
    Lineage { ranges: vec![range(0), range(1)], schema_ids: vec![3], code_version: "test".into() }
}

pub(crate) fn release(version: u64, generation: u64) -> Release {
    Release { name: "fleet".into(), version, generation, created_ms: 1_700_000_000_000, seconds: 0.5 }
}

pub(crate) fn signer() -> Signer {
    Signer::generate().unwrap()
}
