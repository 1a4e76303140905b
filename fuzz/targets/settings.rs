//! See [`telltale_fuzz::services::settings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::services::settings(bytes));
