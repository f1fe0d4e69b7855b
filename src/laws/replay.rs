//! The short form of the fuzzers: every law over its seeds in `tests/fuzz/seeds`, and over damaged copies of them.
//!
//! `CAMPAIGND_LAW_ROUNDS` sets how many copies, `CAMPAIGND_LAW_SEED` where the damage starts. An input that breaks a law is left in
//! `target/broken-laws`; once it is understood it belongs to the seeds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};

use super::{ALL, Law};
use crate::dice::Dice;

/// Damaged copies tried of each law's seeds.
const ROUNDS: u64 = 1500;

/// A copy grows no longer than this, so that a round stays cheap.
const MAX_BYTES: usize = 4096;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = fuzz_dir().join("seeds").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The dictionary's tokens, as libFuzzer reads them: one in quotes on each line, with `\"`, `\\` and `\xHH`.
fn tokens(name: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(fuzz_dir().join("dictionaries").join(format!("{name}.dict"))).unwrap_or_default();
    let inside = |line: &str| line.strip_prefix('"')?.strip_suffix('"').map(unescape);
    text.lines().filter_map(inside).collect()
}

fn unescape(token: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), token.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let escaped = if first == b'\\' { after.first() } else { None };
        match escaped {
            Some(b'x') => {
                let hex = std::str::from_utf8(&after[1..3]).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &after[3..];
            }
            Some(&byte) => {
                out.push(byte);
                rest = &after[1..];
            }
            None => out.push(first),
        }
    }
    out
}

/// Leaves the input behind when a law breaks over it.
struct Witness<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/broken-laws");
            let path = dir.join(self.name);
            let kept = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, self.input));
            let shown: String =
                self.input.iter().take(600).flat_map(|&byte| std::ascii::escape_default(byte)).map(char::from).collect();
            println!("the law `{}` is broken by {} ({kept:?}): {shown}", self.name, path.display());
        }
    }
}

fn hold(name: &str, law: Law, input: &[u8]) {
    let _witness = Witness { name, input };
    law(input);
}

/// One to four small damages.
fn damage(seeds: &[Vec<u8>], tokens: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let any = |dice: &mut Dice, from: &[Vec<u8>]| from.get(dice.random_range(0..from.len().max(1))).cloned().unwrap_or_default();
    let mut bytes = any(dice, seeds);
    for _ in 0..dice.random_range(1..=4) {
        let at = dice.random_range(0..=bytes.len());
        let to = (at + dice.random_range(0..=16)).min(bytes.len());
        let piece = match dice.random_range(0..7) {
            0 => vec![],
            1 => vec![dice.random()],
            2 => bytes[at..to].repeat(dice.random_range(2..=4)),
            3 => bytes[at..to].iter().map(|byte| byte ^ (1 << dice.random_range(0..8))).collect(),
            4 => {
                let other = any(dice, seeds);
                let from = dice.random_range(0..=other.len());
                other[from..(from + dice.random_range(0..=64)).min(other.len())].to_vec()
            }
            5 => [b"0".as_slice(), b"-1", b"905321234567", b"\xff", b"\n", b"\0", b"4294967296", b"\""][dice.random_range(0..8)]
                .to_vec(),
            _ => any(dice, tokens),
        };
        bytes.splice(at..to, piece);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn check(wanted: &str) {
    let (name, law) = ALL.into_iter().find(|(name, _)| *name == wanted).unwrap();
    let (seeds, tokens) = (seeds(name), tokens(name));
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|seed| hold(name, law, seed));
    let mut dice = Dice::seed_from_u64(from_env("CAMPAIGND_LAW_SEED", 0));
    for _ in 0..from_env("CAMPAIGND_LAW_ROUNDS", ROUNDS) {
        hold(name, law, &damage(&seeds, &tokens, &mut dice));
    }
}

macro_rules! each {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_law_has_a_test_and_a_fuzz_target() {
            let laws: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(laws, [$(stringify!($name)),*].map(str::to_owned).into());
            let targets = std::fs::read_dir(fuzz_dir().join("targets")).unwrap();
            let targets: BTreeSet<_> = targets.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            assert_eq!(laws, targets);
            let manifest = std::fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
            for name in &laws {
                assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            }
        }
    };
}

each! { answer config control events headers job queue recipients rules store triage }
