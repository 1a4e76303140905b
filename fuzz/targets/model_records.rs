//! See [`telltale_fuzz::model::records`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::model::records(bytes));
