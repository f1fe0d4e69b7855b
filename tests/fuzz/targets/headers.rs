//! Looks for a break of the law `headers`: any AMQP properties.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::headers(bytes));
