//! The real gateway over HTTP: one POST, one Answer, classified in this one place.
