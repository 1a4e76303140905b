//! See [`telltale_fuzz::embedded::recovery`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::embedded::recovery(bytes));
