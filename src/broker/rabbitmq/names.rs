//! What exists in the virtual host: names, declaration arguments and delay steps. Pure; `deploy/rabbitmq` mirrors it.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::broker::Source;
use crate::job::CampaignId;

/// The door for producers, and where delayed jobs come home. Routing key: the campaign id.
pub(super) const JOBS: &str = "campaignd.jobs";
/// Exchange and queue for whatever no campaign queue takes.
pub(super) const INTAKE: &str = "campaignd.intake";
/// Exchange of the dead letters. Routing key: the campaign id.
pub(super) const DEAD: &str = "campaignd.dead";
/// Exchange and stream of the notes about campaigns.
pub(super) const NOTES: &str = "campaignd.campaigns";

/// An announcement's routing key starts with this; no campaign id holds a colon, so no campaign queue takes it.
const ANNOUNCE: &str = "announce:";

/// The delays a wait queue exists for, in seconds, ascending.
pub(super) const STEPS: [u64; 11] = [1, 2, 5, 15, 30, 60, 300, 900, 3_600, 21_600, 86_400];

/// The shortest step that is no shorter than `delay`; the longest one for whatever is longer (the job is delayed again then).
pub(super) fn step(delay: Duration) -> Duration {
    let longest = STEPS.last().copied().unwrap_or(1);
    let seconds = STEPS.into_iter().find(|&s| Duration::from_secs(s) >= delay).unwrap_or(longest);
    Duration::from_secs(seconds)
}

/// Exchange and queue of a delay step.
pub(super) fn wait(step: Duration) -> String {
    format!("campaignd.wait.{}", step.as_millis())
}

/// The queue a source reads from.
pub(super) fn queue(source: &Source) -> String {
    match source {
        Source::Intake => INTAKE.to_owned(),
        Source::Jobs(campaign) => format!("{JOBS}.{campaign}"),
        Source::Dead(campaign) => format!("{DEAD}.{campaign}"),
    }
}

/// The routing key of an announcement.
pub(super) fn announce_key(campaign: &CampaignId) -> String {
    format!("{ANNOUNCE}{campaign}")
}

/// Whether a routing key is an announcement's.
pub(super) fn is_announce_key(key: &str) -> bool {
    key.starts_with(ANNOUNCE)
}

/// An AMQP short string; cut at its 255 byte limit, because `ShortString::from` panics beyond it.
pub(super) fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::try_new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// Builds an argument table.
#[derive(Default)]
pub(super) struct Arguments(FieldTable);

impl Arguments {
    fn text(mut self, key: &'static str, value: &str) -> Self {
        self.0.insert(short(key), AMQPValue::LongString(value.into()));
        self
    }

    fn number(mut self, key: &'static str, value: i64) -> Self {
        self.0.insert(short(key), AMQPValue::LongLongInt(value));
        self
    }

    fn yes(mut self, key: &'static str) -> Self {
        self.0.insert(short(key), AMQPValue::Boolean(true));
        self
    }

    fn table(self) -> FieldTable {
        self.0
    }

    fn quorum() -> Self {
        // A large positive limit: without one RabbitMQ 4 drops a message after 20 returns, and -1 destroys messages on 3.10.
        Self::default().text("x-queue-type", "quorum").number("x-delivery-limit", 1_000_000)
    }
}

/// Arguments of a campaign's queues.
pub(super) fn campaign_queue() -> FieldTable {
    Arguments::quorum().table()
}

/// Arguments of the intake queue: one daemon at a time takes new campaigns in.
pub(super) fn intake_queue() -> FieldTable {
    Arguments::quorum().yes("x-single-active-consumer").table()
}

/// Arguments of the wait queue of `step`.
pub(super) fn wait_queue(step: Duration) -> FieldTable {
    Arguments::default()
        .text("x-queue-type", "quorum")
        .number("x-message-ttl", i64::try_from(step.as_millis()).unwrap_or(i64::MAX))
        .text("x-dead-letter-exchange", JOBS)
        .text("x-dead-letter-strategy", "at-least-once")
        .text("x-overflow", "reject-publish") // at-least-once needs it
        .table()
}

/// Arguments of the stream of notes: about 400,000 notes, cut in whole segments.
pub(super) fn notes_stream() -> FieldTable {
    Arguments::default()
        .text("x-queue-type", "stream")
        .number("x-max-length-bytes", NOTES_BYTES)
        .number("x-stream-max-segment-size-bytes", 20_000_000)
        .table()
}

/// How large the stream of notes may grow.
pub(super) const NOTES_BYTES: i64 = 200_000_000;

/// Arguments of the jobs exchange: what has no campaign queue goes to the intake, so nothing is ever unroutable.
pub(super) fn jobs_exchange() -> FieldTable {
    Arguments::default().text("alternate-exchange", INTAKE).table()
}

/// Consumer arguments that read a stream from its start.
pub(super) fn from_the_start() -> FieldTable {
    Arguments::default().text("x-stream-offset", "first").table()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn announcements_have_a_key_no_campaign_can_have() {
        let campaign: CampaignId = "spring".parse().unwrap();
        let key = announce_key(&campaign);
        assert!(is_announce_key(&key));
        assert!(key.parse::<CampaignId>().is_err());
        assert!(!is_announce_key("announce"));
    }

    proptest! {
        #[test]
        fn a_step_is_never_shorter_than_the_delay_unless_there_is_no_longer_one(ms in 0u64..200_000_000) {
            let delay = Duration::from_millis(ms);
            let step = step(delay);
            let longest = Duration::from_secs(86_400);
            prop_assert!(step >= delay.min(longest));
            prop_assert!(STEPS.contains(&step.as_secs()));
            let shorter = STEPS.iter().rev().find(|&&s| s < step.as_secs());
            prop_assert!(shorter.is_none_or(|&s| Duration::from_secs(s) < delay));
        }

        #[test]
        fn short_strings_never_panic(text in "\\PC{0,200}") {
            prop_assert!(text.starts_with(short(&text).as_str()));
        }
    }
}
