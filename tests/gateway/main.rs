//! The gateway client and the simulator over real HTTP.
