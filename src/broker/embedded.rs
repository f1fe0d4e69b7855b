//! A broker within the process, on sled, for one daemon on one machine.
