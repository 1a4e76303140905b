//! See [`telltale_fuzz::services::pipeline`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::services::pipeline(bytes));
