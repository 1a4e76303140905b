//! See [`telltale_fuzz::model::artifact`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::model::artifact(bytes));
