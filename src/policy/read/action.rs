//! Reads what a rule does: job, pause, slow-down, and what changes once it has repeated.

use std::time::Duration;

use super::values::{Reader, Value};
use crate::policy::rules::{Delay, JobPlan, Repeated, Threshold};
use crate::policy::{PauseOrder, SlowDown};

/// More often than that within a time would be a long list of times to keep.
const MAX_COUNT: u32 = 1000;
const MAX_DELAYS: usize = 50;

const JOB_FORMS: &str = "write \"hold\", \"dead-letter\", \"suppress\", { retry = [\"30s\", \"5m\"] }, { wait = \"retry-after\" } \
                         or { unknown = [\"1m\"] }";

impl Reader {
    pub(super) fn job(&mut self, value: &Value<'_>) -> Option<JobPlan> {
        if let Some(word) = value.get_ref().as_str() {
            return match word {
                "hold" => Some(JobPlan::Hold),
                "dead-letter" => Some(JobPlan::DeadLetter),
                "suppress" => Some(JobPlan::Suppress),
                _ => self.refuse(value, format!("{word:?} is nothing a job can do; {JOB_FORMS}")),
            };
        }
        let Some(table) = value.get_ref().as_table() else {
            return self.refuse(value, format!("job is a word or a table; {JOB_FORMS}"));
        };
        self.only(table, "job", &["retry", "wait", "unknown"]);
        match (table.get("retry"), table.get("wait"), table.get("unknown")) {
            (Some(delays), None, None) => self.schedule(delays, 1).map(JobPlan::Retry),
            (None, Some(delay), None) => self.delay(delay).map(JobPlan::Wait),
            (None, None, Some(delays)) => self.schedule(delays, 0).map(JobPlan::Unknown),
            (None, None, None) if !table.is_empty() => None,
            _ => self.refuse(value, format!("job is exactly one thing; {JOB_FORMS}")),
        }
    }

    /// A delay that is wrong is noted and left out.
    fn schedule(&mut self, value: &Value<'_>, least: usize) -> Option<Vec<Duration>> {
        let items = self.array(value, "delays, for example [\"30s\", \"5m\"]");
        if value.get_ref().is_array() && !(least..=MAX_DELAYS).contains(&items.len()) {
            return self.refuse(value, format!("a schedule has {least} to {MAX_DELAYS} delays, here are {}", items.len()));
        }
        Some(items.iter().filter_map(|item| self.duration(item)).collect())
    }

    pub(super) fn delay(&mut self, value: &Value<'_>) -> Option<Delay> {
        if value.get_ref().as_str() == Some("retry-after") {
            return Some(Delay::RetryAfter);
        }
        self.duration(value).map(Delay::For)
    }

    pub(super) fn pause(&mut self, value: &Value<'_>) -> Option<PauseOrder> {
        let table = self.table(value, "a table, for example { scope = \"campaign\" }")?;
        self.only(table, "pause", &["scope", "length", "probe"]);
        let scope = match table.get("scope") {
            Some(scope) => self.word(scope),
            None => self.missing(value, "pause", "scope", "scope = \"campaign\" or scope = \"account\""),
        };
        let length = table.get("length").and_then(|length| self.duration(length));
        let probe = table.get("probe").and_then(|probe| self.flag(probe)).unwrap_or_default();
        if probe && !table.contains_key("length") {
            return self.refuse(value, "a pause that a person lifts is not followed by a probe; add length, or take probe out");
        }
        Some(PauseOrder { scope: scope?, length, probe })
    }

    pub(super) fn slow_down(&mut self, value: &Value<'_>) -> Option<SlowDown> {
        let table = self.table(value, "a table, for example { factor = 0.5, length = \"5m\" }")?;
        self.only(table, "slow-down", &["factor", "length"]);
        let factor = match table.get("factor") {
            Some(factor) => self.factor(factor),
            None => self.missing(value, "slow-down", "factor", "factor = 0.5"),
        };
        let length = match table.get("length") {
            Some(length) => self.duration(length),
            None => self.missing(value, "slow-down", "length", "length = \"5m\""),
        };
        Some(SlowDown { factor: factor?, length: length? })
    }

    pub(super) fn repeated(&mut self, value: &Value<'_>) -> Option<Repeated> {
        let table = self.table(value, "a table, for example { in-a-row = 5, per = \"campaign\", alert = \"warning\" }")?;
        self.only(table, "repeated", &["in-a-row", "count", "within", "per", "job", "pause", "slow-down", "alert"]);
        let threshold = match (table.get("in-a-row"), table.get("count"), table.get("within")) {
            (Some(times), None, None) => self.number(times, 1, MAX_COUNT).map(Threshold::InARow),
            (None, Some(count), Some(within)) => {
                let (count, within) = (self.number(count, 1, MAX_COUNT), self.duration(within));
                count.zip(within).map(|(count, within)| Threshold::Within { count, within })
            }
            _ => self.refuse(value, "repeated needs either in-a-row = 5, or both count = 10 and within = \"1m\""),
        };
        let per = match table.get("per") {
            Some(per) => self.word(per),
            None => self.missing(value, "repeated", "per", "per = \"campaign\", \"account\" or \"country\""),
        };
        if !["job", "pause", "slow-down", "alert"].iter().any(|key| table.contains_key(*key)) {
            self.wrong(value.span().start, "repeated changes nothing; add job, pause, slow-down or alert");
        }
        let repeated = Repeated {
            job: table.get("job").and_then(|job| self.job(job)),
            pause: table.get("pause").and_then(|pause| self.pause(pause)),
            slow_down: table.get("slow-down").and_then(|slow_down| self.slow_down(slow_down)),
            alert: table.get("alert").and_then(|alert| self.word(alert)),
            threshold: threshold?,
            per: per?,
        };
        Some(repeated)
    }
}
