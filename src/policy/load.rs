//! Reads the rules in force from disk: the operator's file, or without one the compiled-in text.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{BUILTIN_TEXT, Mistakes, Rules};

/// A rules file is some tens of KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the rules file {file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        error: io::Error,
    },
    /// The file has mistakes.
    #[error("the rules file is wrong:\n{0}\n`campaignd policy show --toml` prints one that is right, with what every key means")]
    Mistakes(#[from] Mistakes),
}

impl Rules {
    /// The rules of `file`, or without one the compiled-in ones. Reads the disk: not for the sending path.
    ///
    /// # Errors
    /// When the file cannot be read, or with every mistake in it.
    pub fn load(file: Option<&Path>) -> Result<Self, LoadError> {
        let name = file.map_or(Cow::Borrowed("config/policy.toml"), Path::to_string_lossy);
        Ok(Self::parse(&Self::text(file)?, &name)?)
    }

    /// The text of `file`, or without one the compiled-in one.
    ///
    /// # Errors
    /// When the file cannot be read or is longer than 1 MiB.
    pub fn text(file: Option<&Path>) -> Result<Cow<'static, str>, LoadError> {
        let Some(file) = file else {
            return Ok(Cow::Borrowed(BUILTIN_TEXT));
        };
        read(file).map(Cow::Owned).map_err(|error| LoadError::Read { file: file.display().to_string(), error })
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is longer than 1 MiB; is it the right file?"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        file
    }

    #[test]
    fn without_a_file_the_compiled_in_rules_are_in_force() {
        assert_eq!(Rules::load(None).unwrap().iter().count(), Rules::builtin().iter().count());
    }

    #[test]
    fn a_file_replaces_them_whole() {
        let own = file(b"[[rule]]\nname = \"mine\"\njob = \"hold\"\n");
        let rules = Rules::load(Some(own.path())).unwrap();
        assert_eq!(rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>(), ["mine"]);
    }

    #[test]
    fn a_file_may_be_a_whole_mib() {
        let mut text = b"[[rule]]\nname = \"mine\"\njob = \"hold\"\n".to_vec();
        text.resize(1 << 20, b'#');
        assert!(Rules::load(Some(file(&text).path())).is_ok());
        text.push(b'#');
        assert!(Rules::load(Some(file(&text).path())).is_err());
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_name() {
        let told = |path: &Path| Rules::load(Some(path)).unwrap_err().to_string();
        assert!(told(Path::new("/nowhere/policy.toml")).contains("/nowhere/policy.toml"));
        let long = file(&vec![b'#'; 2 << 20]);
        assert!(told(long.path()).contains("longer than 1 MiB"));
        assert!(told(file(b"\xff").path()).contains("UTF-8"));
        let wrong = file(b"x = 1\n");
        let text = told(wrong.path());
        assert!(text.contains(&format!("{}:1:1: ", wrong.path().display())), "{text}");
    }
}
