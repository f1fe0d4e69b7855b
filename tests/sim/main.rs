//! The engine in a simulated world: seeded faults, paused clock.
