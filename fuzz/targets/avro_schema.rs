//! See [`telltale_fuzz::records::avro_schema`].
#![no_main]

// A panic of the library is caught; the fuzzer's hook would end the process before.
libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| telltale_fuzz::records::avro_schema(bytes));
