//! Its input: onyx::bench::clouds::fuzzing::papers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onyx::bench::clouds::fuzzing::papers(data));
