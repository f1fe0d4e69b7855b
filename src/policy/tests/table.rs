//! The default table, row by row, written by hand from the design and from Meta's list, not from `config/policy.toml`.

use std::time::Duration;

use super::*;

#[test]
fn the_compiled_in_rules_parse() {
    match Rules::parse(BUILTIN_TEXT, "config/policy.toml") {
        Ok(rules) => assert!(rules.iter().count() > 50),
        Err(mistakes) => panic!("{mistakes}"),
    }
}
