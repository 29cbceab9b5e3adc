//! Its input: onyx::bench::clouds::fuzzing::http.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onyx::bench::clouds::fuzzing::http(data));
