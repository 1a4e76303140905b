//! See [`telltale_fuzz::records::avro_schema`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::records::avro_schema(bytes));
