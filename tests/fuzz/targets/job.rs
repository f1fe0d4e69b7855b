//! Looks for a break of the law `job`: any job body.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::job(bytes));
