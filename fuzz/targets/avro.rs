//! See [`telltale_fuzz::records::avro`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::records::avro(bytes));
