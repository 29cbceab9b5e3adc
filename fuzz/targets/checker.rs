//! Its input: onyx::gateway::rules::fuzzing::checker.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onyx::gateway::rules::fuzzing::checker(data));
