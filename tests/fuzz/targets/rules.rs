//! Looks for a break of the law `rules`: any policy rules file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::rules(bytes));
