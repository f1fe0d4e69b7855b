//! Looks for a break of the law `recipients`: any recipients file with any message file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::recipients(bytes));
