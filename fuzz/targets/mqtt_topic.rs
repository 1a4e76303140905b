//! See [`telltale_fuzz::services::mqtt_topic`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| telltale_fuzz::services::mqtt_topic(bytes));
