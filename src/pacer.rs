//! Waits for the account's turn: governor smooths, a sliding log of our own guarantees.
