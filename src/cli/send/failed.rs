//! The failed jobs of a `send`, one by one, in a CSV file beside its state.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::engine::DeadLetter;
use crate::exit::{Exit, Failure};
use crate::job::Job;

/// Its name in the state directory.
const FILE: &str = "failed.csv";

const HEADER: [&str; 9] = ["to", "reason", "code", "meta", "http_status", "attempts", "at", "job_id", "description"];

/// Writes the file anew, readable by its owner only: it holds full recipients. Without failed jobs there is none.
pub(super) fn write(dir: &Path, letters: &[DeadLetter]) -> Result<Option<PathBuf>, Failure> {
    let path = dir.join(FILE);
    let written = if letters.is_empty() { remove(&path) } else { replace(&path, letters) };
    written.map_err(|error| Failure::new(Exit::Io, format_args!("cannot write {}: {error}", path.display())))?;
    Ok((!letters.is_empty()).then_some(path))
}

fn remove(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn replace(path: &Path, letters: &[DeadLetter]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut table = csv::Writer::from_writer(file);
    table.write_record(HEADER)?;
    letters.iter().try_for_each(|letter| table.write_record(fields(letter)))?;
    table.flush()?;
    fs::rename(&draft, path)
}

fn fields(letter: &DeadLetter) -> [String; 9] {
    let death = &letter.death;
    let job = letter.body.as_deref().and_then(|body| Job::parse(body.as_bytes()).ok());
    [
        job.map(|job| job.to.digits()).unwrap_or_default(),
        death.reason.clone(),
        death.code.clone().unwrap_or_default(),
        death.meta.map(|meta| meta.to_string()).unwrap_or_default(),
        death.http_status.map(|status| status.to_string()).unwrap_or_default(),
        letter.attempts.to_string(),
        death.at.to_string(),
        letter.job.as_ref().map(ToString::to_string).unwrap_or_default(),
        death.description.clone(),
    ]
}
