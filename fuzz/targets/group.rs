//! Its input: onyx::gateway::fuzzing::group.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onyx::gateway::fuzzing::group(data));
