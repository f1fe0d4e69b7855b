//! RabbitMQ by lapin: topology, confirms, acknowledgements in runs, and our own reconnecting.
