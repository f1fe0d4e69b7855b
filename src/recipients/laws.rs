//! What holds for any recipients file with any message file.

use std::collections::HashSet;
use std::io::Write;

use super::{Jobs, MessageFile, Plan, Recipients, Survey, Template};
use crate::job::{Job, MAX_BODY_BYTES};
use crate::laws::{is_fit_for_logs, lies_within, longest_digits};

/// Between the message file and the recipients file.
const CUT: &str = "\n---\n";

/// A message file that cannot be used says where; every row is a job, a duplicate, or refused at its line; both passes agree, nobody
/// has two jobs, and no value breaks out of its place.
pub fn hold(bytes: &[u8]) {
    let at = bytes.windows(CUT.len()).position(|window| window == CUT.as_bytes()).unwrap_or(bytes.len());
    let (message, rows) = bytes.split_at(at);
    let Ok(text) = std::str::from_utf8(message) else { return };
    let message = MessageFile { name: "message.json".into(), text: text.to_owned() };
    match Template::parse(&message) {
        Err(error) => check_place(&error.to_string(), text),
        Ok(template) => {
            check_rendering(&template, text);
            survey(&template, text, rows.get(CUT.len()..).unwrap_or_default());
        }
    }
}

fn check_place(error: &str, text: &str) {
    let mut parts = error.splitn(4, ':');
    let name = parts.next();
    let mut number = || parts.next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let (line, column) = (number(), number());
    assert!(name == Some("message.json") && lies_within(text, line, column), "{error}");
}

fn check_rendering(template: &Template, text: &str) {
    let names = template.names().len();
    let whole = template.render_with(|_| Some("https://x.example/\"}],{\\"));
    let Ok(whole) = whole else { panic!("a value was asked for that is there") };
    let Ok(rendered) = serde_json::from_str::<serde_json::Value>(&whole) else {
        // Nested deeper than a `Value` goes, but no less whole for that.
        return assert!(serde_json::from_str::<serde::de::IgnoredAny>(&whole).is_ok(), "{whole}");
    };
    assert_eq!(names > 0, template.render_with(|_| None).is_err());
    if let Ok(source) = serde_json::from_str::<serde_json::Value>(text) {
        assert_eq!(shape(&source), shape(&rendered), "values fill strings, and nothing else");
    }
}

/// The JSON without what its strings hold.
fn shape(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(_) => Value::String(String::new()),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        other => other.clone(),
    }
}

fn survey(template: &Template, text: &str, rows: &[u8]) {
    let file = tempfile::NamedTempFile::new().and_then(|mut file| file.write_all(rows).map(|()| file));
    let Ok(file) = file else { panic!("no temporary file: {file:?}") };
    let (Ok(recipients), Ok(campaign)) = (Recipients::open(file.path(), None), "spring".parse()) else { return };
    let plan = Plan { campaign, account: None, not_after: None, options: String::new() };
    let survey = match Survey::take(&recipients, template, &plan, |_| {}) {
        Ok(survey) => survey,
        Err(error) => return check_refusal(&error.to_string(), text, rows, file.path()),
    };
    assert_eq!(survey.rows, survey.jobs + survey.duplicates + survey.rejected);
    assert_eq!(survey.countries.values().map(|country| country.jobs).sum::<u64>(), survey.jobs);
    let lines = rows.split(|&byte| byte == b'\n').count() as u64;
    for rejected in &survey.listed {
        assert!((1..=lines).contains(&rejected.line), "{rejected:?}");
        // A reason may name a column.
        assert!(is_fit_for_logs(&rejected.reason) || text.len() > 1000 || names_are_odd(text, rows), "{rejected:?}");
    }
    assert!(survey.duplicate_lines.iter().chain(&survey.notes.unlikely_lines).all(|line| (1..=lines).contains(line)));
    let Ok(jobs) = Jobs::new(&recipients, template.clone(), plan, &survey) else { panic!("the second pass does not begin") };
    check_jobs(jobs, &survey);
}

/// Whether message file or header hold what would look odd in a log by itself.
fn names_are_odd(text: &str, rows: &[u8]) -> bool {
    let header = rows.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let odd =
        |text: &str| longest_digits(text) >= 7 || text.contains(|c: char| c.is_control() && c != '\n') || text.contains("\\u");
    odd(text) || odd(&String::from_utf8_lossy(header)) || rows.starts_with(b"{")
}

fn check_refusal(error: &str, text: &str, rows: &[u8], path: &std::path::Path) {
    if error.starts_with("message.json:") {
        return check_place(error, text);
    }
    assert!(error.contains(&path.display().to_string()), "{error}");
    let line = error.split(':').nth(1).and_then(|digits| digits.parse::<usize>().ok());
    assert!(line.is_none_or(|line| (1..=rows.split(|&byte| byte == b'\n').count()).contains(&line)), "{error}");
}

fn check_jobs(jobs: Jobs, survey: &Survey) {
    let (mut seen, mut ids, mut count) = (HashSet::new(), HashSet::new(), 0);
    for job in jobs {
        let Ok(job) = job else { panic!("the file did not change: {job:?}") };
        let wire = job.to_wire();
        assert!(wire.len() <= MAX_BODY_BYTES);
        assert_eq!(Job::parse(&wire).map(|read| (read.id, read.to, read.campaign)), Ok((job.id.clone(), job.to, job.campaign)));
        assert!(seen.insert(job.to) && ids.insert(job.id), "one recipient, one job");
        count += 1;
    }
    assert_eq!(count, survey.jobs, "both passes agree");
}
