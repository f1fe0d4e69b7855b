//! The failed jobs of a `send`, one by one, in a CSV file beside its state.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::admin::{DeadGroup, Groups};
use crate::cli::local::engine_failure;
use crate::engine::{DeadLetter, Letters};
use crate::exit::{Exit, Failure};
use crate::job::Job;

/// Its name in the state directory.
const FILE: &str = "failed.csv";

const HEADER: [&str; 9] = ["to", "reason", "code", "meta", "http_status", "attempts", "at", "job_id", "description"];

/// Writes the file anew, readable by its owner only: it holds full recipients. Without failed jobs there is none. Also why they failed.
pub(super) async fn write(dir: &Path, letters: Letters) -> Result<(Vec<DeadGroup>, Option<PathBuf>), Failure> {
    let path = dir.join(FILE);
    let draft = path.with_extension("new");
    let cannot = |error: std::io::Error| Failure::new(Exit::Io, format_args!("cannot write {}: {error}", path.display()));
    let groups = copy(&draft, letters, &cannot).await?.sorted();
    if groups.is_empty() {
        remove(&draft).and_then(|()| remove(&path)).map_err(cannot)?;
        return Ok((groups, None));
    }
    fs::rename(&draft, &path).map_err(cannot)?;
    Ok((groups, Some(path)))
}

fn remove(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

async fn copy(draft: &Path, mut letters: Letters, cannot: &impl Fn(std::io::Error) -> Failure) -> Result<Groups, Failure> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft).map_err(cannot)?;
    let mut table = csv::Writer::from_writer(file);
    let written = |result: Result<(), csv::Error>| result.map_err(|error| cannot(error.into()));
    written(table.write_record(HEADER))?;
    let mut groups = Groups::default();
    while let Some(letter) = letters.next().await.map_err(|error| engine_failure(&error))? {
        written(table.write_record(fields(&letter)))?;
        groups.add(letter.death);
    }
    table.flush().map_err(cannot)?;
    Ok(groups)
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
