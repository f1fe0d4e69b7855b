//! Looks for a break of the law `config`: any configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::config(bytes));
