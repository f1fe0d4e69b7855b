//! The one place where the real parts are built and joined.
