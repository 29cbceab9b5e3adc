//! Its input: onyx::gateway::fuzzing::api.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onyx::gateway::fuzzing::api(data));
