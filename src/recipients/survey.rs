//! The first pass: every row checked and counted before anything is published.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Plan;
use super::input::{Fingerprints, InputError, Recipients};
use super::jobs::{Checker, Verdict};
use super::rows::{Next, Row, Rows, RowsError};
use super::template::{Template, TemplateError};
use crate::job::MessageKind;

/// Rows listed by line and reason; the rest are counted.
pub const MAX_LISTED: usize = 100;

/// How often progress is told, in rows.
const TELL_EVERY: u64 = 10_000;

/// Why there is no survey.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The recipients file cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The message file does not fit the recipients file.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl From<RowsError> for SurveyError {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Input(error) => Self::Input(error),
            RowsError::Template(error) => Self::Template(error),
        }
    }
}

/// What a recipients file holds. Shows no number whole.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// Rows, good and bad.
    pub rows: u64,
    /// Jobs: good rows, each recipient once.
    pub jobs: u64,
    /// Good rows whose recipient had one before; the first counts.
    pub duplicates: u64,
    /// Lines of the first few duplicates.
    pub duplicate_lines: Vec<u64>,
    /// Rows that cannot become a job.
    pub rejected: u64,
    /// The first [`MAX_LISTED`] of them.
    pub listed: Vec<Rejected>,
    /// Jobs by the country of their recipient, ISO 3166 code.
    pub countries: BTreeMap<&'static str, Country>,
    /// What is not wrong but worth knowing.
    pub notes: Notes,
    /// The batch's name: the same files and options always get the same.
    pub batch: String,
    /// The first good row's message, and its recipient masked.
    pub sample: Option<(String, String)>,
    #[serde(skip)]
    pub(super) fingerprints: Fingerprints,
    #[serde(skip)]
    pub(super) repeats: Repeats,
}

/// Rows whose recipient had one before, a bit for each row up to the last of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Repeats(Vec<u64>);

impl Repeats {
    fn add(&mut self, row: u64) {
        let (word, bit) = Self::place(row);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
    }

    pub(super) fn contains(&self, row: u64) -> bool {
        let (word, bit) = Self::place(row);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    const fn place(row: u64) -> (usize, u64) {
        ((row / 64) as usize, 1 << (row % 64))
    }
}

/// A row that cannot become a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its line in the file.
    pub line: u64,
    /// Why; quotes nothing of the row.
    pub reason: String,
}

/// A country's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Country {
    /// Country calling code.
    pub code: u16,
    /// Jobs.
    pub jobs: u64,
    /// Of these, numbers that lie in no range anybody has been given.
    pub unlikely: u64,
}

/// What is not wrong but worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Notes {
    /// Jobs whose number lies in no range anybody has been given.
    pub unlikely: u64,
    /// Lines of the first few of them.
    pub unlikely_lines: Vec<u64>,
    /// Jobs of a template with an empty value.
    pub empty_values: u64,
    /// Jobs of a template with a value that holds a line end, a tab, or more than four spaces in a row.
    pub awkward_values: u64,
    /// Columns that the message does not use.
    pub unused_columns: Vec<String>,
}

/// Lines shown of duplicates and unlikely numbers.
const FEW: usize = 5;

impl Survey {
    /// Reads the whole file. `tell` is called now and then with the rows read so far.
    ///
    /// # Errors
    /// When the file cannot be read, has no usable header, or lacks a column that the message uses. Bad rows are no error here.
    pub fn take(
        recipients: &Recipients,
        template: &Template,
        plan: &Plan,
        mut tell: impl FnMut(u64),
    ) -> Result<Self, SurveyError> {
        let blocks = recipients.first_pass()?;
        let mut rows = Rows::new(recipients.name(), recipients.format(), blocks, template)?;
        let mut count = Count {
            checker: Checker::new(template.clone(), plan.clone()),
            seen: HashSet::new(),
            survey: Self::empty(),
            kind: template.kind(),
        };
        let mut row = Row::default();
        let mut ever = vec![false; template.names().len()];
        loop {
            let next = rows.next(&mut row)?;
            if next == Next::End {
                break;
            }
            count.take(next, &row);
            ever.iter_mut().zip(&row.values).for_each(|(ever, value)| *ever |= value.is_some());
            if count.survey.rows.is_multiple_of(TELL_EVERY) {
                tell(count.survey.rows);
            }
        }
        let mut survey = count.survey;
        if let (Some(index), true) = (ever.iter().position(|ever| !ever), survey.rejected > 0) {
            return Err(template.unknown(index, rows.columns()).into());
        }
        let unused = rows.columns().iter().filter(|column| *column != "to" && !template.names().any(|name| name == *column));
        survey.notes.unused_columns = unused.filter(|column| !column.is_empty()).cloned().collect();
        survey.fingerprints = rows.into_blocks().into_fingerprints();
        survey.batch = batch_name(recipients, template, plan, &survey.fingerprints);
        Ok(survey)
    }

    fn empty() -> Self {
        Self {
            rows: 0,
            jobs: 0,
            duplicates: 0,
            duplicate_lines: Vec::new(),
            rejected: 0,
            listed: Vec::new(),
            countries: BTreeMap::new(),
            notes: Notes::default(),
            batch: String::new(),
            sample: None,
            fingerprints: Fingerprints::default(),
            repeats: Repeats::default(),
        }
    }
}

/// A survey being taken.
struct Count {
    checker: Checker,
    /// Recipients of the jobs so far.
    seen: HashSet<u64>,
    survey: Survey,
    kind: MessageKind,
}

impl Count {
    fn take(&mut self, next: Next, row: &Row) {
        let survey = &mut self.survey;
        survey.rows += 1;
        let verdict = match next {
            Next::Bad(reason) => Verdict::Rejected(reason),
            _ => self.checker.judge(row, &self.seen),
        };
        match verdict {
            Verdict::Rejected(reason) => {
                survey.rejected += 1;
                if survey.listed.len() < MAX_LISTED {
                    survey.listed.push(Rejected { line: row.line, reason });
                }
            }
            Verdict::Duplicate => {
                survey.duplicates += 1;
                survey.repeats.add(survey.rows - 1);
                note_line(&mut survey.duplicate_lines, row.line);
            }
            Verdict::Job(to, message, standing) => {
                survey.jobs += 1;
                self.seen.insert(to.number());
                let country = survey.countries.entry(standing.country).or_default();
                country.code = standing.code;
                country.jobs += 1;
                if !standing.likely {
                    country.unlikely += 1;
                    survey.notes.unlikely += 1;
                    note_line(&mut survey.notes.unlikely_lines, row.line);
                }
                if self.kind == MessageKind::Template {
                    survey.notes.look_at(row);
                }
                if survey.sample.is_none() {
                    survey.sample = Some((to.to_string(), message.as_json().to_owned()));
                }
            }
        }
    }
}

impl Notes {
    /// Meta refuses template parameters that are empty or hold line ends, tabs or long runs of spaces.
    fn look_at(&mut self, row: &Row) {
        let mut values = row.values.iter().flatten();
        self.empty_values += u64::from(values.clone().any(|value| value.trim().is_empty()));
        self.awkward_values += u64::from(values.any(|value| value.contains(['\n', '\r', '\t']) || value.contains("     ")));
    }
}

fn note_line(lines: &mut Vec<u64>, line: u64) {
    if lines.len() < FEW {
        lines.push(line);
    }
}

fn batch_name(recipients: &Recipients, template: &Template, plan: &Plan, prints: &Fingerprints) -> String {
    let mut hash = Sha256::new();
    let account = plan.account.as_ref().map_or("", |name| name.as_str());
    for part in [plan.campaign.as_str(), account, &plan.options, &format!("{:?}", recipients.format()), template.source()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    prints.feed(&mut hash);
    let digits = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("f{digits}")
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Jobs, MessageFile};
    use super::*;

    fn plan() -> Plan {
        Plan { campaign: "spring".parse().unwrap(), account: None, not_after: None, options: String::new() }
    }

    fn survey_of(content: &str, format: Format, message: &str) -> Result<(Survey, Vec<crate::job::Job>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let recipients = Recipients::open(file.path(), Some(format)).unwrap();
        let template =
            Template::parse(&MessageFile { name: "m.json".into(), text: message.into() }).map_err(|e| e.to_string())?;
        let survey = Survey::take(&recipients, &template, &plan(), |_| {}).map_err(|e| e.to_string())?;
        let jobs = Jobs::new(&recipients, template, plan(), &survey).unwrap().map(Result::unwrap).collect();
        Ok((survey, jobs))
    }

    const TEMPLATE: &str = r#"{"type":"template","template":{"name":"n","language":{"code":"tr"},"components":[{"type":"body","parameters":[{"type":"text","text":"{{ name }}"}]}]}}"#;

    #[test]
    fn counts_add_up_and_both_passes_agree() {
        let content = "to,name,x\n+90 532 123 45 67,Ali,1\n905321234567,Ali again,2\n12015550123,,3\nnonsense,x,4\n905321234568,\"a\nb\",5\n901111111111,c,6\n9.05E+11,d,7\n";
        let (survey, jobs) = survey_of(content, Format::Csv, TEMPLATE).unwrap();
        assert_eq!((survey.rows, survey.jobs, survey.duplicates, survey.rejected), (7, 4, 1, 2));
        assert_eq!(survey.rows, survey.jobs + survey.duplicates + survey.rejected);
        assert_eq!(jobs.len(), 4);
        assert_eq!(jobs[0].message.as_json(), TEMPLATE.replace("{{ name }}", "Ali"));
        assert_eq!(jobs[2].to.digits(), "905321234568");
        let lines: Vec<u64> = survey.listed.iter().map(|rejected| rejected.line).collect();
        assert_eq!(lines, [5, 9]);
        assert!(survey.listed[1].reason.contains("spreadsheet"));
        assert_eq!(survey.countries.get("TR").unwrap(), &Country { code: 90, jobs: 3, unlikely: 1 });
        assert_eq!(survey.countries.get("US").unwrap().jobs, 1);
        assert_eq!((survey.notes.empty_values, survey.notes.awkward_values, survey.notes.unlikely), (1, 1, 1));
        assert_eq!(survey.notes.unused_columns, ["x"]);
        assert_eq!(survey.duplicate_lines, [3]);
    }

    #[test]
    fn nothing_shown_holds_a_whole_number() {
        let content = "to,name\n905329876543,Ali\n9053298765430000000,x\n905329876543x,y\n";
        let (survey, _) = survey_of(content, Format::Csv, TEMPLATE).unwrap();
        let shown = serde_json::to_string(&survey).unwrap();
        assert!(!shown.contains("905329876543"), "{shown}");
        assert_eq!(survey.sample.unwrap().0, "9053…43");
    }

    #[test]
    fn the_batch_is_named_by_files_and_options() {
        let name = |content: &str, message: &str, options: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            let recipients = Recipients::open(file.path(), None).unwrap();
            let template = Template::parse(&MessageFile { name: "m.json".into(), text: message.into() }).unwrap();
            let plan = Plan { options: options.into(), ..plan() };
            Survey::take(&recipients, &template, &plan, |_| {}).unwrap().batch
        };
        let content = "to,name\n905321234567,Ali\n";
        let first = name(content, TEMPLATE, "");
        assert_eq!(first, name(content, TEMPLATE, ""));
        assert_ne!(first, name(&content.replace("Ali", "Veli"), TEMPLATE, ""));
        assert_ne!(first, name(content, &TEMPLATE.replace("tr", "en"), ""));
        assert_ne!(first, name(content, TEMPLATE, "sandbox"));
    }

    #[test]
    fn a_placeholder_no_row_has_is_a_mistake_in_the_message() {
        let error = survey_of("{\"to\":\"905321234567\",\"nam\":\"x\"}\n", Format::Ndjson, TEMPLATE).unwrap_err();
        assert!(error.contains("m.json:1:") && error.contains("no column `name`; it has: to, nam"), "{error}");
        let (survey, jobs) =
            survey_of("{\"to\":\"905321234567\",\"name\":\"x\"}\n{\"to\":\"905321234568\"}\n", Format::Ndjson, TEMPLATE).unwrap();
        assert_eq!((survey.jobs, survey.rejected, jobs.len()), (1, 1, 1));
        assert_eq!(survey.listed[0].reason, "no value for {{ name }}");
    }

    #[test]
    fn what_the_gateway_would_refuse_is_refused_by_row() {
        let message = r#"{"type":"text","text":{"body":"{{ body }}"}}"#;
        let content = format!("to,body\n905321234567,{}\n905321234568,\n905321234569,ok\n", "ä".repeat(4097));
        let (survey, jobs) = survey_of(&content, Format::Csv, message).unwrap();
        assert!(survey.listed[0].reason.contains("4097 characters"), "{:?}", survey.listed);
        assert!(survey.listed[1].reason.contains("empty"), "{:?}", survey.listed);
        assert_eq!(jobs.len(), 1);
        let footer = r#"{"type":"interactive","interactive":{"x":"{{ body }}"}}"#;
        let (survey, _) = survey_of(&format!("to,body\n905321234567,{}\n", "x".repeat(65_500)), Format::Csv, footer).unwrap();
        assert!(survey.listed[0].reason.contains("64 KiB"), "{:?}", survey.listed);
    }

    #[test]
    fn the_list_of_bad_rows_is_bounded_and_the_count_is_not() {
        let content = format!("to\n{}", "x\n".repeat(250));
        let (survey, _) = survey_of(&content, Format::Csv, r#"{"type":"text","text":{"body":"hi"}}"#).unwrap();
        assert_eq!((survey.rejected, survey.listed.len()), (250, MAX_LISTED));
    }
}
