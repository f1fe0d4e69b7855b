//! The one source of randomness: seeded, and passed to whoever rolls, so that a run can be repeated.

use rand::SeedableRng;

/// A seeded generator. `Dice::seed_from_u64` makes the same rolls for the same seed on every machine.
pub type Dice = rand::rngs::StdRng;

/// Dice nobody can foresee, seeded by the system; a fixed seed if the system has none to give.
#[must_use]
pub fn unforeseen() -> Dice {
    Dice::try_from_rng(&mut rand::rngs::SysRng).unwrap_or_else(|_| Dice::seed_from_u64(0))
}
