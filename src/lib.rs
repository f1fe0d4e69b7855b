//! campaignd sends WhatsApp campaigns through the Connexease Gateway: paced, pausable, and never twice to the same person.
//!
//! The module list is the way of a job; `ARCHITECTURE.md` has the picture.

pub mod admin;
pub mod alert;
pub mod broker;
pub mod campaign;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dice;
mod disk;
pub mod engine;
pub mod exit;
pub mod gateway;
pub mod job;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod lock;
pub mod logging;
pub mod notify;
pub mod outcome;
pub mod pacer;
pub mod policy;
pub mod recipients;
pub mod signals;
pub mod store;
pub mod units;
