//! The daemon's HTTP door on loopback: reads the engine's snapshots, hands it commands.
