//! Looks for a break of the law `store`: any bytes in the store's database.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::store(bytes));
