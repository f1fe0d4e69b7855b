//! Looks for a break of the law `control`: any body that commands, announces or notes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::control(bytes));
