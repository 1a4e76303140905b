//! The hot loops by name, and the one function whose instructions are counted.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use telltale_model::kernel::Instructions;

use crate::{codecs, models};

/// Calls that are counted: enough for what happens at every second call, such as a buffer that grows.
const CALLS: usize = 4;
/// Calls before them, in which buffers find their size and an order of keys is learned.
const WARMING: usize = 2;

/// A hot loop.
pub(crate) struct Loop {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does with a record.
    pub(crate) what: &'static str,
    /// Makes its input.
    pub(crate) prepare: fn() -> Work,
}

/// A loop with its input.
pub(crate) struct Work {
    /// Records of one call.
    pub(crate) records: usize,
    /// Does them all.
    pub(crate) call: Box<dyn FnMut()>,
}

impl Work {
    /// A call that does so many records; what it returns is kept from being optimised away.
    pub(crate) fn new<R>(records: usize, mut call: impl FnMut() -> R + 'static) -> Self {
        Self { records, call: Box::new(move || drop(black_box(call()))) }
    }
}

const fn of(name: &'static str, what: &'static str, prepare: fn() -> Work) -> Loop {
    Loop { name, what, prepare }
}

/// All that are counted.
pub(crate) const LOOPS: &[Loop] = &[
    of("json-to-columns", "JSON to columns, keys in order", codecs::json_to_columns),
    of("columns-to-avro", "columns to clean Avro", codecs::columns_to_avro),
    of("avro-to-matrix-plain", "Avro without nulls to 18 f32", codecs::avro_to_matrix_plain),
    of("avro-to-matrix-nullable", "clean Avro to 18 f32", codecs::avro_to_matrix_nullable),
    of("avro-to-columns", "clean Avro to columns", codecs::avro_to_columns),
    of("prediction-to-avro", "a prediction to Avro", codecs::prediction_to_avro),
    of("batch-push", "a record with its key into a batch", codecs::batch_push),
    of("outgoing-push", "a record with its source into an outgoing", codecs::outgoing_push),
    of("sql", "projection and checks, 1,000 rows", codecs::sql),
    of(
        "preprocess-json",
        "JSON to clean Avro: decode, SQL, checks, encode, windows",
        codecs::preprocess_json,
    ),
    of("preprocess-avro", "the same from Avro of the first generation", codecs::preprocess_avro),
    of("features", "a row to inputs", models::features),
    of("score", "a row to inputs, forward, score and shares", models::score),
    of("training-feed", "a row taken in", models::feed),
    of("training-step", "a row of a step of 256: forward, backward, Adam", models::step),
    of("lstm-step", "a sequence of 10 of a step of 32: forward, backward, Adam", models::lstm_step),
    of("lstm-predict", "a sequence of 10, forward", models::lstm_predict),
];

/// Runs a loop and says how many records were counted.
pub(crate) fn run(name: &str) -> Result<()> {
    let it = LOOPS.iter().find(|it| it.name == name).with_context(|| format!("there is no loop {name}"))?;
    let found = Instructions::detect();
    ensure!(
        found == Instructions::Avx2,
        "the kept figures are of AVX2, and here is {found:?}: count under valgrind, on a CPU with AVX2"
    );
    let mut work = (it.prepare)();
    (0..WARMING).for_each(|_| (work.call)());
    counted_by_callgrind(&mut *work.call);
    println!("{}", CALLS * work.records);
    Ok(())
}

/// What callgrind finds by its name, so it is neither generic nor inlined.
#[inline(never)]
fn counted_by_callgrind(call: &mut dyn FnMut()) {
    for _ in 0..CALLS {
        call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without callgrind, so on any machine; a loop that rejects its input or panics counts the wrong thing.
    #[test]
    fn every_loop_works() {
        for it in LOOPS {
            let mut work = (it.prepare)();
            (work.call)();
            assert!(work.records > 0, "{}", it.name);
        }
    }
}
