//! People: they pause and resume, reload the configuration, cancel, release dead letters, set the clock, fill the disk, pull cables,
//! enqueue more, and help.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use campaignd::campaign::PauseTarget;
use campaignd::engine::{CommandError, DeadSelection, Reload};
use campaignd::job::{AccountName, CampaignId};
use campaignd::pacer::Limits;
use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::time::Instant;

use crate::gateway::SimGateway;
use crate::world::{Life, World};

/// Longest wait for an answer of the daemon's; then nobody knows.
const PATIENCE: Duration = Duration::from_secs(5);

impl World {
    /// One thing, whatever comes to mind.
    pub(crate) async fn meddle(&mut self, life: &Life) {
        let seconds = Duration::from_secs(self.dice.random_range(1..10));
        let (campaign, account) = (self.some_campaign(), self.some_account());
        match self.dice.random_range(0..24) {
            0 => self.pause(life, campaign, None).await,
            1 => self.pause(life, campaign, Some(seconds)).await,
            2 => self.pause(life, account, None).await,
            3 => self.pause(life, account, Some(seconds)).await,
            4 | 5 => self.resume(life, campaign).await,
            6 | 7 => self.resume(life, account).await,
            8 => self.set_the_clock(),
            9 => self.broker.cut(),
            10 => self.broker.fail_for(seconds),
            11 => self.disk.fill(seconds),
            12 => self.disk.stall(seconds),
            13 | 14 => self.help(life).await,
            15 if self.dice.random_bool(0.3) => self.cancel(life, campaign).await,
            16 => self.release(life, campaign).await,
            17 => self.list(life, campaign).await,
            18 | 19 => self.enqueue_more().await,
            20 | 21 => self.reload(life, true).await,
            _ => {}
        }
    }

    fn set_the_clock(&mut self) {
        let step = self.dice.random_range(-600_000..600_000);
        self.witness.fired(if step < 0 { "the wall clock is set back" } else { "the wall clock is set forward" });
        self.clock.step_wall(step);
        self.witness.clock_set();
    }

    fn some_campaign(&mut self) -> PauseTarget {
        PauseTarget::Campaign(self.producers.choose(&mut self.dice).unwrap().id.clone())
    }

    fn some_account(&mut self) -> PauseTarget {
        let at = self.dice.random_range(0..self.gateways.len());
        PauseTarget::Account(self.gateways.keys().nth(at).unwrap().clone())
    }

    /// The configuration is read again: as it was, or with lower limits, fewer places or an account less.
    async fn reload(&mut self, life: &Life, reduced: bool) {
        let mut accounts = self.accounts();
        if reduced {
            let gone = self.dice.random_bool(0.3).then(|| self.some_account());
            accounts.retain(|name, _| gone != Some(PauseTarget::Account(name.clone())));
            for account in accounts.values_mut() {
                let part = self.dice.random_range(1..=4);
                let limits = account.plan.limits;
                let less = |limit: Option<u32>| limit.map(|limit| (limit / part).max(1));
                account.plan = Limits { second: less(limits.second), minute: less(limits.minute) }.into();
                account.max_in_flight = self.dice.random_range(1..=account.max_in_flight);
            }
        }
        let gone: BTreeSet<AccountName> = self.gateways.keys().filter(|name| !accounts.contains_key(name)).cloned().collect();
        let reload = Reload { accounts, rules: Arc::clone(&self.rules), settings: self.settings() };
        self.witness.note(|| format!("reload without {gone:?}"));
        self.reduced |= reduced;
        self.witness.configured_again();
        let answer = tokio::time::timeout(PATIENCE, life.handle.reload(reload)).await;
        if answer.is_ok_and(|answer| answer.is_ok()) {
            self.reduced = reduced;
            self.witness.fired("the configuration is reloaded");
            if !gone.is_empty() {
                self.witness.fired("an account is no longer configured");
            }
            self.witness.told_unconfigured(gone);
        }
    }

    async fn pause(&mut self, life: &Life, target: PauseTarget, length: Option<Duration>) {
        let until = length.map(|length| Instant::now() + length);
        self.witness.note(|| format!("pause {target} for {length:?}"));
        let answer = patiently(life.handle.pause(target.clone(), "meddling".into(), length)).await;
        if answer.is_some_and(|answer| answer.is_ok()) {
            let scope = if matches!(target, PauseTarget::Account(_)) { "an account" } else { "a campaign" };
            let length = if until.is_none() { "until resumed" } else { "for a while" };
            self.witness.fired(&format!("{scope} is paused {length}"));
            self.witness.told_paused(target, until);
        }
    }

    async fn resume(&mut self, life: &Life, target: PauseTarget) {
        if self.told_cancelled.contains(&target) {
            return;
        }
        self.witness.resume_begins(&target);
        if let Some(answer) = patiently(life.handle.resume(target.clone())).await {
            if answer.is_ok_and(|resumed| resumed.lifted) {
                self.witness.fired("a pause is lifted");
            }
            self.witness.resume_ends(&target);
        }
    }

    async fn cancel(&mut self, life: &Life, target: PauseTarget) {
        let PauseTarget::Campaign(id) = &target else { return };
        self.witness.note(|| format!("cancel {id}"));
        self.cancelled.insert(id.clone());
        if patiently(life.handle.cancel(id.clone())).await.is_some_and(|answer| answer.is_ok()) {
            self.witness.fired("a campaign is cancelled");
            self.told_cancelled.insert(target.clone());
            self.witness.told_paused(target, None);
        }
    }

    /// Releases some dead letters, by their reason or all.
    async fn release(&mut self, life: &Life, target: PauseTarget) {
        let PauseTarget::Campaign(id) = target else { return };
        let reasons = [None, Some("unknown-outcome"), Some("invalid-number"), Some("bad-request")];
        let reason = reasons.choose(&mut self.dice).unwrap().map(str::to_owned);
        let limit = self.dice.random_bool(0.3).then_some(2);
        let unknown_too = reason.as_deref() == Some("unknown-outcome");
        let selection = DeadSelection { reason, limit, unknown_too, ..DeadSelection::default() };
        self.witness.note(|| format!("release the dead letters of {id}: {selection:?}"));
        let answer = patiently(life.handle.release(id, selection)).await;
        self.witness.note(|| format!("released: {answer:?}"));
        if matches!(answer, Some(Ok(1..))) {
            self.witness.fired("dead letters are released");
        }
    }

    async fn list(&mut self, life: &Life, target: PauseTarget) {
        let PauseTarget::Campaign(id) = target else { return };
        let all = async { life.handle.dead(id, DeadSelection::default(), true).await?.all().await };
        if patiently(all).await.is_some_and(|letters| letters.is_ok()) {
            self.witness.fired("dead letters are listed");
        }
    }

    async fn enqueue_more(&mut self) {
        let at = self.dice.random_range(0..self.producers.len());
        if self.producers[at].enqueue(&self.broker, &self.witness).await {
            self.witness.fired("more is enqueued");
        }
    }

    /// Tops the accounts up, and lifts every pause.
    pub(crate) async fn help(&mut self, life: &Life) {
        let accounts: Vec<_> = self.gateways.keys().cloned().map(PauseTarget::Account).collect();
        let campaigns: Vec<CampaignId> = self.producers.iter().map(|producer| producer.id.clone()).collect();
        self.gateways.values().for_each(|gateway: &SimGateway| gateway.top_up(30));
        if self.reduced {
            self.reload(life, false).await;
        }
        for target in accounts.into_iter().chain(campaigns.into_iter().map(PauseTarget::Campaign)) {
            self.resume(life, target).await;
        }
    }
}

/// The answer, if one comes in time.
async fn patiently<T>(command: impl Future<Output = Result<T, CommandError>>) -> Option<Result<T, CommandError>> {
    tokio::time::timeout(PATIENCE, command).await.ok()
}
