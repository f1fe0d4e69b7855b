//! Where a secret is kept, and how it is read from there. It shows itself nowhere.

use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::mistake::{Mistake, Place};
use super::reader::Section;

/// The largest secret that is read.
const MAX_SECRET_BYTES: u64 = 4096;

/// Looks up an environment variable. Passed in, since a test cannot change the environment of its process.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where a secret is kept. Reading it is a step of its own: most commands need none.
#[derive(Debug, Clone)]
pub struct SecretSource {
    place: Place,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A file that holds it and nothing else.
    File(PathBuf),
    /// A systemd credential.
    Credential(String),
    /// An environment variable.
    Env(String),
    /// It stood in the configuration itself.
    Literal(SecretString),
}

/// The same source, wherever it is named. What is kept there may have changed.
impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::File(a), Kind::File(b)) => a == b,
            (Kind::Credential(a), Kind::Credential(b)) | (Kind::Env(a), Kind::Env(b)) => a == b,
            (Kind::Literal(a), Kind::Literal(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

/// The keys of a section that say where one secret is.
pub(super) struct Keys {
    pub(super) literal: Option<&'static str>,
    pub(super) file: &'static str,
    pub(super) credential: &'static str,
    pub(super) env: Option<&'static str>,
}

impl SecretSource {
    /// Reads a section's keys for one secret; of those in the operator's file there may be one.
    pub(super) fn find(section: &mut Section<'_, '_>, keys: &Keys) -> Option<Self> {
        let literal = keys.literal.and_then(|key| section.text(key)).map(|f| f.map(|text| Kind::Literal(text.into())));
        let file = section.path(keys.file).map(|found| found.map(Kind::File));
        let credential = section.parsed(keys.credential, credential_name).map(|found| found.map(Kind::Credential));
        let env = keys.env.and_then(|key| section.parsed(key, env_name)).map(|found| found.map(Kind::Env));
        let mut all: Vec<_> = [literal, file, credential, env].into_iter().flatten().collect();
        all.sort_by_key(|found| !found.own);
        let mut own = all.iter().filter(|found| found.own).skip(1);
        if let Some(second) = own.next() {
            let names: Vec<_> = [keys.literal, Some(keys.file), Some(keys.credential), keys.env].into_iter().flatten().collect();
            section.push(second.place.clone(), "says twice where the secret is", &format!("keep one of {}", names.join(", ")));
        }
        let first = all.into_iter().next()?;
        Some(Self { place: first.place, kind: first.value })
    }

    /// One that stands in an environment variable.
    pub(super) fn env(name: &str) -> Self {
        Self { place: Place::whole(&format!("${name}")), kind: Kind::Env(name.into()) }
    }

    /// Where the configuration names it.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The file that everybody may read, if it is one.
    #[must_use]
    pub fn file_open_to_all(&self) -> Option<&Path> {
        use std::os::unix::fs::PermissionsExt;
        let Kind::File(path) = &self.kind else { return None };
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        (mode & 0o004 != 0).then_some(path)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not there, empty, too long, or of more than one line.
    pub fn read(&self, env: Env<'_>) -> Result<SecretString, Mistake> {
        match &self.kind {
            Kind::File(path) => self.read_file(path),
            Kind::Credential(name) => {
                let remedy = "start campaignd by its systemd unit with LoadCredential=, or name a file instead";
                let dir = env("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| self.mistake(format!("credential {name}: $CREDENTIALS_DIRECTORY is not set"), remedy))?;
                self.read_file(&Path::new(&dir).join(name))
            }
            Kind::Env(name) => {
                let text =
                    env(name).ok_or_else(|| self.mistake(format!("${name} is not set"), "set it, or name a file instead"))?;
                self.checked(&text, &format!("${name}"))
            }
            Kind::Literal(text) => Ok(text.clone()),
        }
    }

    fn read_file(&self, path: &Path) -> Result<SecretString, Mistake> {
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text))
            .map_err(|error| self.mistake(format!("{} cannot be read: {error}", path.display()), file_remedy(&error)))?;
        self.checked(&text, &path.display().to_string())
    }

    /// A line break inside would break the request header it goes into.
    fn checked(&self, text: &str, whence: &str) -> Result<SecretString, Mistake> {
        let text = text.trim();
        let wrong = if text.is_empty() {
            "is empty"
        } else if text.len() as u64 > MAX_SECRET_BYTES {
            "is too long for a secret"
        } else if text.chars().any(|c| c.is_control() || c == ' ') {
            "has more than one word or line"
        } else {
            return Ok(text.into());
        };
        Err(self.mistake(format!("{whence} {wrong}"), "it must hold the secret and nothing else"))
    }

    fn mistake(&self, what: String, remedy: &str) -> Mistake {
        Mistake { place: self.place.clone(), what, remedy: remedy.into() }
    }
}

fn file_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "write the secret there, readable by the campaignd user only, or correct the path",
        std::io::ErrorKind::PermissionDenied => "make it readable by the user campaignd runs as, and by nobody else",
        _ => "it must be a text file that holds the secret and nothing else",
    }
}

fn credential_name(text: &str) -> Result<String, String> {
    let fine = !text.is_empty() && text != "." && text != ".." && !text.contains('/');
    if fine { Ok(text.into()) } else { Err("must be the name of a systemd credential, not a path".into()) }
}

/// Refuses what is no variable name without showing it: it may be the secret itself.
fn env_name(text: &str) -> Result<String, String> {
    let fine = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') && !text.is_empty();
    if fine { Ok(text.into()) } else { Err("must be the name of an environment variable (A-Z 0-9 _), not the secret".into()) }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn source(kind: Kind) -> SecretSource {
        SecretSource { place: Place::whole("f"), kind }
    }

    #[test]
    fn reads_a_file_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            source(Kind::File(path.clone())).read(&|_| None)
        };
        assert_eq!(read("pk_secret\n").unwrap().expose_secret(), "pk_secret");
        for bad in ["", "\n", "a b", "a\nb", &"x".repeat(5000)] {
            let mistake = read(bad).unwrap_err().to_string();
            assert!(!mistake.contains("a\nb") && mistake.contains("nothing else"), "{mistake}");
        }
    }

    #[test]
    fn reads_a_credential_and_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("main.key"), "pk_one").unwrap();
        let at = dir.path().display().to_string();
        let env = |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(at.clone()),
            "KEY" => Some("pk_two".into()),
            _ => None,
        };
        assert_eq!(source(Kind::Credential("main.key".into())).read(&env).unwrap().expose_secret(), "pk_one");
        assert_eq!(source(Kind::Env("KEY".into())).read(&env).unwrap().expose_secret(), "pk_two");
        assert!(source(Kind::Credential("main.key".into())).read(&|_| None).unwrap_err().what.contains("not set"));
        assert!(source(Kind::Env("OTHER".into())).read(&env).unwrap_err().what.contains("not set"));
    }

    #[test]
    fn shows_itself_nowhere() {
        let literal = source(Kind::Literal("pk_secret".to_owned().into()));
        assert!(!format!("{literal:?}").contains("pk_secret"));
        assert!(env_name("pk_secret").is_err_and(|error| !error.contains("pk_secret")));
    }
}
