//! Looks for a break of the law `events`: any sequence of replies, resumes and clock jumps.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::events(bytes));
