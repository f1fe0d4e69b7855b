//! Where `send` keeps a campaign between two runs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rand::RngExt;

use crate::dice;
use crate::exit::{Exit, Failure};
use crate::job::CampaignId;

/// Says which batches have been published whole, and which were begun.
const PUBLISHED: &str = "published";
const BEGUN: &str = "begun";

/// The broker's directory. Its inode and a number in it name the broker: one that was moved, copied, deleted or begun anew is another
/// one, and the marks of the old one do not count.
const QUEUES: &str = "queues";
const BROKER_ID: &str = "id";

/// A state directory.
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    /// The named directory, else one by campaign under the user's state; a rehearsal has one of its own.
    pub(super) fn open(named: Option<PathBuf>, campaign: &CampaignId, rehearsal: bool) -> Result<Self, Failure> {
        let by_default = || {
            let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
            Some(state.join(if rehearsal { "campaignd/rehearsal" } else { "campaignd/send" }).join(campaign.as_str()))
        };
        let no_home =
            || Failure::new(Exit::CantCreate, "there is neither XDG_STATE_HOME nor HOME; name a directory with --state-dir");
        let dir = named.or_else(by_default).ok_or_else(no_home)?;
        Ok(Self { dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// This batch was published whole to the broker that is here now.
    pub(super) fn is_published(&self, batch: &str) -> bool {
        self.broker().is_some_and(|broker| self.has(PUBLISHED, &format!("{batch} {broker}")))
    }

    /// Takes down that publishing begins. Whether it had begun before: to whatever broker, its jobs may have been sent.
    pub(super) fn begin(&self, batch: &str) -> Result<bool, Failure> {
        let again = self.has(BEGUN, batch);
        if !again {
            self.note(BEGUN, batch)?;
        }
        Ok(again)
    }

    /// Takes down that it was published whole. Forgetting it costs time, never a second message.
    pub(super) fn mark_published(&self, batch: &str) -> Result<(), Failure> {
        let queues = self.dir.join(QUEUES);
        if self.broker().is_none() && queues.is_dir() {
            let id = format!("{:016x}", dice::unforeseen().random::<u64>());
            fs::write(queues.join(BROKER_ID), id).map_err(|error| unwritten(&queues, &error))?;
        }
        self.broker().map_or(Ok(()), |broker| self.note(PUBLISHED, &format!("{batch} {broker}")))
    }

    fn broker(&self) -> Option<String> {
        let queues = self.dir.join(QUEUES);
        let id = fs::read_to_string(queues.join(BROKER_ID)).ok()?;
        Some(format!("{}-{}", fs::metadata(queues).ok()?.ino(), id.trim()))
    }

    fn has(&self, name: &str, line: &str) -> bool {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default().lines().any(|noted| noted == line)
    }

    /// Adds a line to a file: once this returns it survives a power cut.
    fn note(&self, name: &str, line: &str) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let lines = fs::read_to_string(&path).unwrap_or_default();
        let draft = path.with_extension("new");
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(format!("{lines}{line}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| unwritten(&path, &error))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Io, format_args!("cannot write {}: {error}; run the same command again", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_for_its_batch_and_its_broker_only() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(Some(dir.path().to_owned()), &"c".parse().unwrap(), false).unwrap();
        assert!(!place.is_published("f1"));
        place.mark_published("f1").unwrap();
        assert!(!place.is_published("f1"), "there is no broker yet");
        fs::create_dir(dir.path().join(QUEUES)).unwrap();
        place.mark_published("f1").unwrap();
        place.mark_published("f2").unwrap();
        assert!(place.is_published("f1") && place.is_published("f2") && !place.is_published("f3"));
        fs::rename(dir.path().join(QUEUES), dir.path().join("aside")).unwrap();
        fs::create_dir(dir.path().join(QUEUES)).unwrap();
        assert!(!place.is_published("f1"), "the broker began anew");
        place.mark_published("f1").unwrap();
        fs::remove_dir_all(dir.path().join(QUEUES)).unwrap();
        fs::create_dir(dir.path().join(QUEUES)).unwrap();
        assert!(!place.is_published("f1"), "deleted and begun anew, which may give the same inode");
    }

    #[test]
    fn a_batch_once_begun_is_begun_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Place::open(Some(dir.path().to_owned()), &"c".parse().unwrap(), false).unwrap();
        assert!(!open().begin("f1").unwrap());
        assert!(open().begin("f1").unwrap());
        assert!(!open().begin("f2").unwrap());
    }
}
