//! The daemon against real RabbitMQ and the simulator: every policy row, restarts, kills.
