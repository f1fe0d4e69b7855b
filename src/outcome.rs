//! What a decision means to store, settle, pause, count and alert, as one value.
