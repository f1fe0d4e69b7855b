//! Looks for a break of the law `answer`: any answer of the gateway, headers included.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::answer(bytes));
