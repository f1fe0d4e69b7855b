//! The store in memory, for simulations: tells apart what is durable and what is not yet.
