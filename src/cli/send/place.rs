//! Where `send` keeps a campaign between two runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::{Exit, Failure};
use crate::job::CampaignId;

/// Says which batches have been published whole.
const MARKS: &str = "published";

/// The broker's directory: a new one (moved, copied, begun anew) has another number, and its marks do not count.
const QUEUES: &str = "queues";

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
        let marks = fs::read_to_string(self.dir.join(MARKS)).unwrap_or_default();
        self.mark(batch).is_some_and(|mark| marks.lines().any(|line| line == mark))
    }

    /// Takes down that it was. Forgetting it costs time, never a second message.
    pub(super) fn mark_published(&self, batch: &str) -> Result<(), Failure> {
        let Some(mark) = self.mark(batch) else { return Ok(()) };
        let path = self.dir.join(MARKS);
        let marks = fs::read_to_string(&path).unwrap_or_default();
        let draft = path.with_extension("new");
        let written = fs::write(&draft, format!("{marks}{mark}\n")).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| {
            Failure::new(Exit::Io, format_args!("cannot write {}: {error}; run the same command again", path.display()))
        })
    }

    fn mark(&self, batch: &str) -> Option<String> {
        let queues = fs::metadata(self.dir.join(QUEUES)).ok()?;
        Some(format!("{batch} {}", queues.ino()))
    }
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
    }
}
