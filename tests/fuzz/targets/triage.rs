//! Looks for a break of the law `triage`: any delivery, whatever ledger and campaign say.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| campaignd::laws::triage(bytes));
