//! Its input: onyx::gateway::fuzzing::proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onyx::gateway::fuzzing::proxy(data));
