//! Where log lines go: terminal, JSON, or the journal.
