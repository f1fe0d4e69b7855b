//! The pacer against a simulated gateway, over many seeds: how often it is refused, and how much of what is possible it uses.
//!
//! What is possible: a sender that knows no more than J, the slowest way up less the fastest, and wants no refusal can use 1/(1+J) of
//! the limit.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]
#![expect(clippy::print_stdout, reason = "the figures are what is wanted of a long run")]

mod anything;
mod case;
mod limits;
mod machine;
mod others;
mod sum;
mod ways;
mod world;
