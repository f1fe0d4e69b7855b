//! The configuration file: compiled-in defaults, one file over them, every mistake at once with its line.
