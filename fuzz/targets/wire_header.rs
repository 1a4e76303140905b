//! See [`telltale_fuzz::records::wire_header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::records::wire_header(bytes));
