//! Looks for a break of the law `queue`: any bytes in the embedded broker's database.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::queue(bytes));
