//! See [`telltale_fuzz::sql::pipeline`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::sql::pipeline(bytes));
