//! What the broker remembers against what the store knows: a ledger that was lost, or put back from an older copy, is found out here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{BROKER_RETRY, Router};
use crate::alert::{Alert, Status};
use crate::campaign::{Campaign, Pause, PauseTarget};
use crate::engine::lane::Lane;
use crate::engine::{Note, Pulse};
use crate::job::{AccountName, CampaignId};
use crate::policy::Severity;
use crate::store::{Change, Mark};

/// At a start the link to the broker is up within some milliseconds, so that is when it is asked again first.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// Before the broker is asked again: soon at first, then at the usual distance.
fn waits() -> impl Iterator<Item = Duration> {
    successors(Some(FIRST_RETRY), |wait| Some((*wait * 2).min(BROKER_RETRY)))
}

/// The broker's notes, sorted out.
#[derive(Default)]
struct Notes {
    campaigns: Vec<(CampaignId, Note)>,
    pauses: BTreeMap<AccountName, Pause>,
    /// How far the ledger had come that was in use last.
    mark: Option<Mark>,
}

impl Router {
    /// Reads the notes. Of a ledger that is not what it was, every campaign is told so, and what only the broker knows is taken up.
    pub(super) async fn recall(&mut self) {
        let notes = self.read_notes().await;
        let mark = self.parts.store.mark();
        let lost = self.behind || notes.mark.is_some_and(|noted| !mark.covers(noted));
        let wall = self.parts.clock.wall();
        self.compare(&notes);
        let (known, unknown): (Vec<_>, Vec<_>) = notes.campaigns.into_iter().partition(|(id, _)| self.accounts.contains_key(id));
        let unknown: Vec<(Campaign, Option<Pause>)> = unknown.into_iter().map(|(_, note)| note.without_ledger(wall)).collect();
        let (mut changes, mut told): (Vec<Change>, Vec<Change>) = (Vec::new(), Vec::new());
        if lost {
            changes.extend(known.into_iter().flat_map(|(id, note)| self.catch_up(&id, note)));
            told.extend(self.unstarted.iter_mut().flat_map(Lane::lose_ledger));
        }
        if lost || !unknown.is_empty() {
            self.tell_loss(unknown.len(), told.len());
        }
        changes.extend(told);
        changes.extend(self.adopt(unknown));
        if lost {
            let pauses = notes.pauses.into_iter().filter(|(_, pause)| !pause.is_over(wall));
            changes.extend(pauses.filter_map(|(account, pause)| self.restore_pause(account, pause)));
        }
        self.write_down(changes).await;
        self.note_mark().await;
    }

    /// What is noted as it is need not be noted again.
    fn compare(&mut self, notes: &Notes) {
        let mut noted: BTreeMap<&AccountName, Vec<&(CampaignId, Note)>> = BTreeMap::new();
        for campaign in &notes.campaigns {
            if let Some(account) = self.accounts.get(&campaign.0) {
                noted.entry(account).or_default().push(campaign);
            }
        }
        for lane in &mut self.unstarted {
            for (id, note) in noted.remove(lane.account()).into_iter().flatten() {
                lane.compare_note(id, note);
            }
            lane.compare_pause(notes.pauses.get(lane.account()));
        }
    }

    fn catch_up(&mut self, id: &CampaignId, note: Note) -> Vec<Change> {
        let Some(account) = self.accounts.get(id) else { return Vec::new() };
        let lane = self.unstarted.iter_mut().find(|lane| lane.account() == account);
        lane.map(|lane| lane.catch_up(id, note)).unwrap_or_default()
    }

    async fn read_notes(&mut self) -> Notes {
        let broker = &self.parts.broker;
        let notes = patiently(&self.pulse, "the broker", || broker.recall()).await;
        let mut sorted = Notes::default();
        for (id, bytes) in notes {
            if id == CampaignId::ledger_note() {
                sorted.mark = serde_json::from_slice(&bytes).ok();
            } else if let Some(account) = id.noted_account() {
                sorted.pauses.extend(serde_json::from_slice(&bytes).ok().map(|pause| (account, pause)));
            } else {
                sorted.campaigns.extend(Note::parse(&bytes).map(|note| (id, note)));
            }
        }
        sorted
    }

    /// Takes campaigns up that the store did not know; their records are written before any of their jobs is consumed.
    fn adopt(&mut self, unknown: Vec<(Campaign, Option<Pause>)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (campaign, pause) in unknown {
            let (id, account) = (campaign.id.clone(), campaign.account.clone());
            changes.push(Change::Campaign(campaign.clone()));
            changes.extend(pause.clone().map(|pause| Change::Pause(PauseTarget::Campaign(id.clone()), pause)));
            self.ensure_lane(&account);
            if let Some(lane) = self.unstarted.iter_mut().find(|lane| *lane.account() == account) {
                lane.adopt(campaign, pause);
            }
            self.accounts.insert(id, account);
        }
        changes
    }

    fn restore_pause(&mut self, account: AccountName, pause: Pause) -> Option<Change> {
        let lane = self.unstarted.iter_mut().find(|lane| *lane.account() == account)?;
        tracing::warn!(%account, cause = pause.cause, "paused, as it was before the ledger was lost");
        let merged = lane.restore_pause(pause);
        Some(Change::Pause(PauseTarget::Account(account), merged))
    }

    fn tell_loss(&self, unknown: usize, known: usize) {
        let summary = format!(
            "the ledger in the state directory is not what it was: it lacks {unknown} campaigns that the broker knows, and the end of {known}"
        );
        tracing::error!("{summary}; jobs delivered before are treated as unknown");
        self.parts.alerts.raise(Alert {
            status: Status::Firing,
            severity: Severity::Critical,
            rule: "ledger-lost".into(),
            account: None,
            campaign: None,
            summary,
            advice: "Jobs delivered before count as outcome unknown: look through the dead letters. Do not enqueue the same files again: the \
                     ledger no longer knows everybody who got a message."
                .into(),
            at: self.parts.clock.wall(),
        });
    }

    async fn write_down(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let (store, changes) = (&self.parts.store, Arc::<[Change]>::from(changes));
        patiently(&self.pulse, "the state directory", || store.commit(Arc::clone(&changes))).await;
    }

    /// Notes at the broker how far the ledger has come, before anything is sent that a ledger put back later would not know.
    async fn note_mark(&mut self) {
        let (broker, id, note) = (&self.parts.broker, CampaignId::ledger_note(), mark_note(self.parts.store.mark()));
        patiently(&self.pulse, "the broker", || broker.remember(&id, &note)).await;
    }
}

/// Tries until it works, for nothing may be sent before. Says once, and not at every start, what it waits for; the status does all the
/// time.
async fn patiently<T, E: Display, F: Future<Output = Result<T, E>>>(
    pulse: &watch::Sender<Pulse>,
    awaited: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let (mut told, mut waits) = (false, waits());
    loop {
        let error = match attempt().await {
            Ok(done) => return done,
            Err(error) => error,
        };
        let wait = waits.next().unwrap_or(BROKER_RETRY);
        if wait == BROKER_RETRY && !std::mem::replace(&mut told, true) {
            tracing::warn!(%error, "waiting for {awaited}; nothing is sent until then");
        }
        pulse.send_modify(|pulse| {
            pulse.status = format!("waiting for {awaited}: {error}");
            pulse.beat += 1;
        });
        tokio::time::sleep(wait).await;
    }
}

/// A mark as the broker keeps it.
pub(super) fn mark_note(mark: Mark) -> Vec<u8> {
    serde_json::to_vec(&mark).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_does_not_wait_a_second_for_a_link_that_is_up_at_once_nor_pester_one_that_stays_down() {
        assert!(waits().take(4).sum::<Duration>() < Duration::from_millis(200));
        assert_eq!(waits().find(|wait| *wait >= BROKER_RETRY), Some(BROKER_RETRY));
        assert!(waits().skip(10).take(100).all(|wait| wait == BROKER_RETRY));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_is_told_and_the_pulse_goes_on() {
        let (pulse, seen) = watch::channel(Pulse::default());
        let mut results = vec![Ok(7), Err("no space left"), Err("no space left")];
        let done = patiently(&pulse, "the state directory", || std::future::ready(results.pop().unwrap())).await;
        assert_eq!((done, seen.borrow().beat), (7, 2));
        assert_eq!(seen.borrow().status, "waiting for the state directory: no space left");
    }
}
