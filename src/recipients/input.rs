//! The two files a campaign is made of, opened so that they can be read twice and cannot change unnoticed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes checked at a time. Each block costs 16 bytes of memory, so a 1 GB file costs 256 KiB.
const BLOCK_BYTES: usize = 64 * 1024;

/// Largest message file, in bytes; a job body holds at most 64 KiB.
const MAX_MESSAGE_FILE_BYTES: u64 = 1024 * 1024;

/// How a recipients file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A header line, then one line per recipient, separated by comma, semicolon or tab
    Csv,
    /// One JSON object per line
    Ndjson,
}

/// Why a file cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be opened or read.
    #[error("cannot read {name}: {source}")]
    Io {
        /// The file as the operator named it.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// It can be read, but not as what it should be.
    #[error("{0}")]
    Shape(String),
    /// It is not the file it was in the first pass.
    #[error("{0} changed while it was being read")]
    Changed(String),
}

impl InputError {
    pub(super) fn io(name: &str, source: io::Error) -> Self {
        if source.get_ref().is_some_and(|inner| inner.is::<Changed>()) {
            return Self::Changed(name.to_owned());
        }
        Self::Io { name: name.to_owned(), source }
    }
}

/// A recipients file, open, of known format.
#[derive(Debug)]
pub struct Recipients {
    name: String,
    file: File,
    format: Format,
}

impl Recipients {
    /// Opens a recipients file; `-` is standard input. What cannot be read twice (a pipe) is copied to an unlinked temporary file.
    ///
    /// Without `format` the name's extension decides, else the first character: `{` begins NDJSON.
    ///
    /// # Errors
    /// When it cannot be opened, read or copied, or is in UTF-16.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, InputError> {
        let stdin = path == Path::new("-");
        let name = if stdin { "standard input".to_owned() } else { path.display().to_string() };
        let fail = |source| InputError::Io { name: name.clone(), source };
        let mut file = if stdin { spool(io::stdin().lock()).map_err(fail)? } else { open_or_spool(path).map_err(fail)? };
        let head = head_of(&mut file).map_err(fail)?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(InputError::Shape(format!("{name} is UTF-16; save it as UTF-8 (in a spreadsheet: \"CSV UTF-8\")")));
        }
        let format = format.or_else(|| format_of(path)).unwrap_or_else(|| sniff(&head));
        Ok(Self { name, file, format })
    }

    /// The file as the operator named it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// From the start, taking down a fingerprint of every block.
    pub(super) fn first_pass(&self) -> Result<Blocks, InputError> {
        self.pass(Fingerprints::default(), false)
    }

    /// From the start, comparing with the fingerprints of the first pass before a byte is handed on.
    pub(super) fn second_pass(&self, seen: Fingerprints) -> Result<Blocks, InputError> {
        self.pass(seen, true)
    }

    fn pass(&self, seen: Fingerprints, check: bool) -> Result<Blocks, InputError> {
        let rewound = self.file.try_clone().and_then(|mut file| file.seek(SeekFrom::Start(0)).map(|_| file));
        let file = rewound.map_err(|source| InputError::io(&self.name, source))?;
        Ok(Blocks { file, seen, check, next: 0, block: Vec::new(), at: 0, ended: false })
    }
}

fn open_or_spool(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if kind.is_file() { Ok(file) } else { spool(file) }
}

fn spool(mut from: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut from, &mut file)?;
    Ok(file)
}

fn head_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(1024).read_to_end(&mut head)?;
    Ok(head)
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" | "tsv" => Some(Format::Csv),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        _ => None,
    }
}

fn sniff(head: &[u8]) -> Format {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if head.trim_ascii_start().starts_with(b"{") { Format::Ndjson } else { Format::Csv }
}

/// What the first pass saw, block by block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprints(Vec<[u8; 16]>);

impl Fingerprints {
    /// One digest over all of them.
    pub(super) fn feed(&self, hash: &mut Sha256) {
        self.0.iter().for_each(|print| hash.update(print));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the file is not what it was in the first pass")]
struct Changed;

/// Reads a file in whole blocks and fingerprints, or checks, each before it is handed on.
#[derive(Debug)]
pub(super) struct Blocks {
    file: File,
    seen: Fingerprints,
    check: bool,
    next: usize,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Blocks {
    /// The fingerprints taken; complete once the end has been read.
    pub(super) fn into_fingerprints(self) -> Fingerprints {
        self.seen
    }

    fn refill(&mut self) -> io::Result<()> {
        self.block.clear();
        self.at = 0;
        self.file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut self.block)?;
        self.ended = self.block.len() < BLOCK_BYTES;
        if self.block.is_empty() {
            return if self.check && self.next != self.seen.0.len() { Err(io::Error::other(Changed)) } else { Ok(()) };
        }
        let mut print = [0; 16];
        print.iter_mut().zip(Sha256::digest(&self.block)).for_each(|(to, from)| *to = from);
        if !self.check {
            self.seen.0.push(print);
        } else if self.seen.0.get(self.next) != Some(&print) || (self.ended && self.next + 1 != self.seen.0.len()) {
            return Err(io::Error::other(Changed));
        }
        self.next += 1;
        Ok(())
    }
}

impl Read for Blocks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.ended {
            self.refill()?;
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.at += count;
        Ok(count)
    }
}

/// A message file's text.
#[derive(Debug)]
pub struct MessageFile {
    /// The file as the operator named it.
    pub name: String,
    /// Its content.
    pub text: String,
}

impl MessageFile {
    /// Reads a message file.
    ///
    /// # Errors
    /// When it cannot be read, is larger than 1 MiB, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let name = PathBuf::from(path).display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_MESSAGE_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|source| InputError::Io { name: name.clone(), source })?;
        if bytes.len() as u64 > MAX_MESSAGE_FILE_BYTES {
            return Err(InputError::Shape(format!("{name} is larger than 1 MiB; a message file holds one message object")));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text: text.to_owned() }),
            Err(error) => Err(InputError::Shape(format!("{name} is not UTF-8 (at byte {})", error.valid_up_to()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_with(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_block_that_changed_is_refused_before_it_is_handed_on() {
        let mut bytes = vec![b'a'; BLOCK_BYTES + 10];
        let mut file = file_with(&bytes);
        let recipients = Recipients::open(file.path(), Some(Format::Csv)).unwrap();
        let mut first = recipients.first_pass().unwrap();
        let mut read = Vec::new();
        first.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        let seen = first.into_fingerprints();

        let mut again = Vec::new();
        recipients.second_pass(seen.clone()).unwrap().read_to_end(&mut again).unwrap();
        assert_eq!(again, bytes);

        bytes[BLOCK_BYTES + 3] = b'b';
        file.as_file_mut().seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&bytes).unwrap();
        let mut changed = Vec::new();
        let error = recipients.second_pass(seen).unwrap().read_to_end(&mut changed).unwrap_err();
        assert!(matches!(InputError::io("f", error), InputError::Changed(_)));
        assert_eq!(changed.len(), BLOCK_BYTES, "only the unchanged block came through");
    }

    #[test]
    fn a_file_that_grew_or_shrank_on_a_block_edge_is_refused() {
        let file = file_with(&vec![b'a'; BLOCK_BYTES]);
        let recipients = Recipients::open(file.path(), Some(Format::Csv)).unwrap();
        let mut first = recipients.first_pass().unwrap();
        io::copy(&mut first, &mut io::sink()).unwrap();
        let seen = first.into_fingerprints();
        for length in [0, BLOCK_BYTES as u64 * 2] {
            file.as_file().set_len(length).unwrap();
            let mut second = recipients.second_pass(seen.clone()).unwrap();
            assert!(io::copy(&mut second, &mut io::sink()).is_err(), "{length}");
        }
    }

    #[test]
    fn the_format_comes_from_the_name_else_from_the_first_character() {
        assert_eq!(format_of(Path::new("a/b.CSV")), Some(Format::Csv));
        assert_eq!(format_of(Path::new("b.jsonl")), Some(Format::Ndjson));
        assert_eq!(format_of(Path::new("-")), None);
        assert_eq!(sniff(b"\xef\xbb\xbf \n{\"to\""), Format::Ndjson);
        assert_eq!(sniff(b"to,name"), Format::Csv);
    }

    #[test]
    fn utf_16_is_named_as_what_it_is() {
        let file = file_with(&[0xff, 0xfe, b't', 0]);
        assert!(Recipients::open(file.path(), None).unwrap_err().to_string().contains("UTF-16"));
    }
}
