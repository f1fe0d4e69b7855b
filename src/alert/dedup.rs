//! Which alerts people hear: once per rule and account within a window, in the end always how it stands. Told the time, does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Alert, Status};
use crate::job::AccountName;

/// Rules and accounts kept apart at once; the one quiet longest makes room.
const MAX_KEYS: usize = 1024;

/// Changes told within a window; a rule that flaps faster is told once more when the window ends.
const MAX_CHANGES: u32 = 6;

/// An alert to tell, with what was kept silent since the one before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Notice {
    /// The alert.
    #[serde(flatten)]
    pub alert: Arc<Alert>,
    /// Alerts of the same rule and account since the one before, not told.
    pub swallowed: u64,
}

type Key = (String, Option<AccountName>);

/// What was told of one rule and account, and what is so.
#[derive(Debug)]
struct Entry {
    told: Status,
    latest: Arc<Alert>,
    window_since: Instant,
    changes: u32,
    swallowed: u64,
}

/// Remembers what was told.
#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    entries: BTreeMap<Key, Entry>,
}

impl Dedup {
    pub(super) const fn new(window: Duration) -> Self {
        Self { window, entries: BTreeMap::new() }
    }

    /// Takes an alert in, and says whether to tell it now.
    pub(super) fn take(&mut self, alert: Arc<Alert>, now: Instant) -> Option<Notice> {
        let key = (alert.rule.clone(), alert.account.clone());
        let Some(entry) = self.entries.get_mut(&key) else {
            // Nobody has heard that it began, so nobody needs to hear that it is over.
            return (alert.status == Status::Firing).then(|| self.begin(key, alert, now));
        };
        if now.saturating_duration_since(entry.window_since) >= self.window {
            entry.window_since = now;
            entry.changes = 0;
        }
        let news = entry.told != alert.status || (entry.changes == 0 && alert.status == Status::Firing);
        entry.latest = alert;
        if news && entry.changes < MAX_CHANGES { Some(entry.tell()) } else { entry.swallow() }
    }

    /// What a window's end makes worth telling: the state changed while too much was going on.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Notice> {
        let window = self.window;
        let over = |entry: &Entry| now.saturating_duration_since(entry.window_since) >= window;
        let late = self.entries.values_mut().filter(|entry| over(entry) && entry.told != entry.latest.status);
        let notices = late.map(|entry| {
            entry.window_since = now;
            entry.changes = 0;
            entry.tell()
        });
        let notices = notices.collect();
        self.entries.retain(|_, entry| !(over(entry) && entry.told == Status::Resolved));
        notices
    }

    /// When [`Dedup::due`] is worth asking again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let open = self.entries.values().filter(|entry| entry.told == Status::Resolved || entry.told != entry.latest.status);
        open.filter_map(|entry| entry.window_since.checked_add(self.window)).min()
    }

    fn begin(&mut self, key: Key, alert: Arc<Alert>, now: Instant) -> Notice {
        if self.entries.len() >= MAX_KEYS
            && let Some(quiet) = self.entries.iter().min_by_key(|(_, entry)| entry.window_since).map(|(key, _)| key.clone())
        {
            self.entries.remove(&quiet);
        }
        let told = alert.status;
        self.entries.insert(key, Entry { told, latest: Arc::clone(&alert), window_since: now, changes: 1, swallowed: 0 });
        Notice { alert, swallowed: 0 }
    }
}

impl Entry {
    fn tell(&mut self) -> Notice {
        self.changes += 1;
        self.told = self.latest.status;
        Notice { alert: Arc::clone(&self.latest), swallowed: std::mem::take(&mut self.swallowed) }
    }

    const fn swallow(&mut self) -> Option<Notice> {
        self.swallowed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert::tests::alert;

    const WINDOW: Duration = Duration::from_secs(900);

    fn told(notice: Option<Notice>) -> Option<(Status, u64)> {
        notice.map(|notice| (notice.alert.status, notice.swallowed))
    }

    #[test]
    fn a_repeated_alert_is_told_once_a_window_with_a_count() {
        let mut dedup = Dedup::new(WINDOW);
        let start = Instant::now();
        let mut take =
            |seconds: u64| told(dedup.take(alert("BILL_001", "main", Status::Firing), start + Duration::from_secs(seconds)));
        assert_eq!(take(0), Some((Status::Firing, 0)));
        assert_eq!(take(1), None);
        assert_eq!(take(899), None);
        assert_eq!(take(900), Some((Status::Firing, 2)));
        assert_eq!(take(901), None);
    }

    #[test]
    fn accounts_and_rules_are_apart() {
        let mut dedup = Dedup::new(WINDOW);
        let now = Instant::now();
        for (rule, account) in [("a", "x"), ("a", "y"), ("b", "x")] {
            assert!(dedup.take(alert(rule, account, Status::Firing), now).is_some());
        }
    }

    #[test]
    fn over_is_told_only_after_it_began_and_then_it_may_begin_again_at_once() {
        let mut dedup = Dedup::new(WINDOW);
        let now = Instant::now();
        let mut take = |status| told(dedup.take(alert("a", "x", status), now));
        assert_eq!(take(Status::Resolved), None);
        assert_eq!(take(Status::Firing), Some((Status::Firing, 0)));
        assert_eq!(take(Status::Firing), None);
        assert_eq!(take(Status::Resolved), Some((Status::Resolved, 1)));
        assert_eq!(take(Status::Resolved), None);
        assert_eq!(take(Status::Firing), Some((Status::Firing, 1)));
    }

    #[test]
    fn over_is_told_days_later_too() {
        let mut dedup = Dedup::new(WINDOW);
        let start = Instant::now();
        dedup.take(alert("a", "x", Status::Firing), start);
        let later = start + WINDOW * 500;
        assert!(dedup.due(later).is_empty());
        assert_eq!(told(dedup.take(alert("a", "x", Status::Resolved), later)), Some((Status::Resolved, 0)));
    }

    #[test]
    fn over_that_came_amid_too_many_changes_is_told_when_the_window_ends() {
        let mut dedup = Dedup::new(WINDOW);
        let start = Instant::now();
        dedup.take(alert("a", "x", Status::Firing), start);
        let second = start + WINDOW;
        for n in 0..MAX_CHANGES {
            let status = if n % 2 == 0 { Status::Resolved } else { Status::Firing };
            assert!(dedup.take(alert("a", "x", status), second).is_some());
        }
        assert_eq!(dedup.take(alert("a", "x", Status::Resolved), second), None);
        assert_eq!(dedup.next_due(), Some(second + WINDOW));
        assert!(dedup.due(second + WINDOW / 2).is_empty());
        let due: Vec<_> = dedup.due(second + WINDOW).into_iter().map(|notice| notice.alert.status).collect();
        assert_eq!(due, [Status::Resolved]);
    }

    #[test]
    fn keys_are_bounded() {
        let mut dedup = Dedup::new(WINDOW);
        let now = Instant::now();
        for n in 0..MAX_KEYS + 50 {
            assert!(dedup.take(alert(&n.to_string(), "x", Status::Firing), now).is_some());
        }
        assert_eq!(dedup.entries.len(), MAX_KEYS);
    }

    proptest! {
        /// However it flaps: few notices a window, none lost without a count, and in the end people know how it stands.
        #[test]
        fn people_end_up_knowing_how_it_stands(steps in proptest::collection::vec((any::<bool>(), 0u64..400), 1..200)) {
            let mut dedup = Dedup::new(WINDOW);
            let start = Instant::now();
            let (mut now, mut heard, mut times) = (start, Vec::new(), Vec::new());
            let (mut began, mut taken) = (false, 0);
            for (firing, pause) in &steps {
                now += Duration::from_secs(*pause);
                let due = dedup.due(now);
                let status = if *firing { Status::Firing } else { Status::Resolved };
                began |= *firing;
                let notice = dedup.take(alert("a", "x", status), now);
                taken += 1;
                for notice in due.into_iter().chain(notice) {
                    heard.push(notice.alert.status);
                    times.push(now);
                }
            }
            while let Some(at) = dedup.next_due() {
                now = now.max(at);
                heard.extend(dedup.due(now).iter().map(|notice| notice.alert.status));
            }
            let last = if steps.last().unwrap().0 { Status::Firing } else { Status::Resolved };
            prop_assert_eq!(heard.last().copied(), began.then_some(last));
            prop_assert!(heard.len() <= taken + 1);
            for (i, at) in times.iter().enumerate() {
                let within = times[i..].iter().take_while(|other| **other - *at < WINDOW).count();
                prop_assert!(within <= 2 * MAX_CHANGES as usize, "{within} in one window");
            }
        }
    }
}
