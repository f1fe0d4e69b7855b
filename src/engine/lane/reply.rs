//! From answer to outcome, and what follows once something is durable. A pause is in force the moment its answer has been read.

use tokio::time::Instant;

use super::roll::NoteState;
use super::{Key, Lane, Step};
use crate::alert::{Alert, Status};
use crate::campaign::{JobState, Pause, PauseTarget, Record};
use crate::gateway::{Answer, Reply};
use crate::job::CampaignId;
use crate::outcome::{Outcome, Settle, cause, outcome};
use crate::policy::{Scope, Severity, Subject, decide};
use crate::store::{Change, StoreError};

impl Lane {
    pub(super) fn on_commit(&mut self, result: Result<Vec<Step>, StoreError>) {
        let steps = match result {
            Ok(steps) => steps,
            Err(error) => return self.store_failed(&error.to_string()),
        };
        if std::mem::take(&mut self.store_alerted) {
            self.raise_store_alert(Status::Resolved, "the state directory takes writes again".into());
        }
        self.ahead.flushed();
        let now = self.clock.now();
        let mut acks = Vec::new();
        for step in steps {
            match step {
                Step::Send(key) => self.send_in_turn(key, now),
                Step::Settle(key, settle) => self.settle(key, settle, &mut acks),
                Step::Registered(id) => {
                    if let Some(roll) = self.rolls.get_mut(&id) {
                        roll.registered = true;
                    }
                    self.attention.insert(id);
                }
                Step::Noted(id) => self.outdate_note(&id),
                Step::AccountNoted => self.note = NoteState::Outdated,
                Step::Announced(id, tag) => self.ack_once_noted(&id, tag),
                Step::Answer(answer) => answer(),
                Step::Letters(round) => self.on_released(*round),
                Step::Cancelled(id, answer) => self.tell_cancelled(&id, answer),
                Step::Untouched(key) => drop(self.untouched.remove(&key)),
            }
        }
        self.ack(acks);
    }

    /// Nothing is sent for now, and a person is told once.
    pub(super) fn store_failed(&mut self, error: &str) {
        tracing::error!(account = %self.account, error, "nothing is sent until the state directory takes writes");
        if !std::mem::replace(&mut self.store_alerted, true) {
            self.raise_store_alert(Status::Firing, format!("nothing is sent: {error}"));
        }
    }

    fn raise_store_alert(&self, status: Status, summary: String) {
        self.alerts.raise(Alert {
            status,
            severity: Severity::Critical,
            rule: "store-failed".into(),
            account: Some(self.account.clone()),
            campaign: None,
            summary,
            advice: "Make room on the disk of the state directory; sending goes on by itself.".into(),
            at: self.clock.wall(),
        });
    }

    /// One request less under way.
    pub(super) fn landed(&mut self, id: &CampaignId) {
        self.sending = self.sending.saturating_sub(1);
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.sending = roll.sending.saturating_sub(1);
        }
    }

    /// An answer, or none when a pause came first and nothing was sent.
    pub(super) fn on_answer(&mut self, key: Key, answer: Option<Answer>) {
        let now = self.clock.now();
        let Some(answer) = answer else { return self.unsend(key, now) };
        self.landed(&key.0);
        self.ahead.freed();
        let Some(active) = self.active.get(&key) else { return };
        let (Some(job), Some(roll)) = (&active.job, self.rolls.get_mut(&key.0)) else { return };
        let begun = active.begun;
        if let Some(slot) = active.slot {
            self.pacer.answered(slot, self.sends.len(), now, &answer);
        }
        let subject = Subject {
            account: self.account.clone(),
            campaign: key.0.clone(),
            to: job.to,
            message: job.message.kind(),
            mmlite: roll.campaign.options.mmlite,
            attempts: active.attempts,
        };
        let wall = self.clock.wall();
        let decision = decide(&self.rules, &mut self.history, &subject, &answer.reply, wall, &mut self.dice);
        let outcome = outcome(&subject, &answer.reply, &decision, roll.campaign.options.on_unknown, wall);
        if matches!(answer.reply, Reply::Accepted { .. }) {
            self.gate.succeeded();
            roll.gate.succeeded();
            roll.meter.add(now);
            self.meter.add(now);
            tracing::debug!(campaign = %key.0, job = %key.1, account = %self.account, attempt = subject.attempts, to = %subject.to, "accepted");
        } else {
            tracing::info!(campaign = %key.0, job = %key.1, account = %self.account, attempt = subject.attempts, to = %subject.to,
                rule = %decision.rule, now = ?outcome.state.tag(), "not accepted: {}", cause(&answer.reply));
        }
        self.put_in_force(&subject, &outcome, begun, now);
        self.conclude(key, outcome.state, outcome.attempts, outcome.settle, now);
    }

    /// Whatever the outcome asks of campaign and account, at once; what must last is written with it.
    fn put_in_force(&mut self, subject: &Subject, outcome: &Outcome, begun: Instant, now: Instant) {
        if let Some(wait) = outcome.hold_account {
            self.pacer.hold(wait, now);
        }
        if let Some(order) = outcome.slow_down {
            self.pacer.slow_down(order, now);
        }
        if outcome.suppress && self.suppressed.insert(subject.to) {
            self.journal.change(Change::Suppress(self.account.clone(), subject.to), None, now);
        }
        if let Some((scope, pause)) = &outcome.pause {
            self.pause(&subject.campaign, *scope, pause.clone(), Some(begun), now);
        }
        if let Some(alert) = &outcome.alert {
            self.alerts.raise(alert.clone());
        }
    }

    /// Puts a pause in force and writes it. `begun`: the request whose reply asks for it; a person's resume since then outweighs it.
    pub(super) fn pause(&mut self, id: &CampaignId, scope: Scope, pause: Pause, begun: Option<Instant>, now: Instant) {
        let wall = self.clock.wall();
        let (gate, target) = match scope {
            Scope::Account => (&mut self.gate, PauseTarget::Account(self.account.clone())),
            Scope::Campaign => {
                let Some(roll) = self.rolls.get_mut(id) else { return };
                (&mut roll.gate, PauseTarget::Campaign(id.clone()))
            }
        };
        if begun.is_some_and(|begun| !gate.heeds(begun)) {
            return;
        }
        let was_open = gate.is_open();
        let merged = gate.close(pause, now, wall);
        if was_open {
            tracing::warn!(account = %self.account, campaign = %id, %target, cause = merged.cause, until = ?merged.until, "paused");
        }
        self.journal.change(Change::Pause(target, merged), None, now);
        self.take_back(now);
        self.attend_to(scope, id);
        let noted = if scope == Scope::Campaign { Step::Noted(id.clone()) } else { Step::AccountNoted };
        self.journal.follow(noted, now);
    }

    /// Writes what became of a job; the broker is told once that is durable.
    pub(super) fn conclude(&mut self, key: Key, state: JobState, attempts: u32, settle: Settle, now: Instant) {
        let era = self.era(&key.0);
        let Some(active) = self.active.get_mut(&key) else { return };
        let record = Record::new(key.1.clone(), active.entry.as_ref(), active.batch, state, attempts, active.release, era);
        active.attempts = attempts;
        active.entry = Some(record.now.clone());
        let campaign = key.0.clone();
        self.enter(&campaign, record, Some(Step::Settle(key, settle)), now);
    }

    /// Ends the pauses whose time is over.
    pub(super) fn expire_pauses(&mut self, now: Instant) {
        if let Some(pause) = self.gate.expire(now) {
            self.journal.change(Change::Resume(PauseTarget::Account(self.account.clone())), Some(Step::AccountNoted), now);
            self.resolve(&pause, None);
            self.attention.extend(self.rolls.keys().cloned());
        }
        let attention: Vec<CampaignId> = self.attention.iter().cloned().collect();
        for id in attention {
            let Some(pause) = self.rolls.get_mut(&id).and_then(|roll| roll.gate.expire(now)) else { continue };
            self.journal.change(Change::Resume(PauseTarget::Campaign(id.clone())), Some(Step::Noted(id.clone())), now);
            self.resolve(&pause, Some(id));
        }
    }

    /// Says that what a rule had paused goes on.
    pub(super) fn resolve(&self, pause: &Pause, campaign: Option<CampaignId>) {
        let what = campaign.as_ref().map_or_else(|| format!("account {}", self.account), |id| format!("campaign {id}"));
        tracing::info!(account = %self.account, cause = pause.cause, "{what} goes on");
        let Some(rule) = &pause.rule else { return };
        self.alerts.raise(Alert {
            status: Status::Resolved,
            severity: Severity::Info,
            rule: rule.clone(),
            account: Some(self.account.clone()),
            campaign,
            summary: format!("{what} goes on; it was paused by: {}", pause.cause),
            advice: String::new(),
            at: self.clock.wall(),
        });
    }

    fn attend_to(&mut self, scope: Scope, id: &CampaignId) {
        match scope {
            Scope::Account => self.attention.extend(self.rolls.keys().cloned()),
            Scope::Campaign => drop(self.attention.insert(id.clone())),
        }
    }
}
