//! The account's rate in the whole engine: `RATE_001` holds every campaign of it, and the wall clock has no say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use campaignd::campaign::Priority;
use campaignd::clock::Clock;
use campaignd::gateway::{Answer, Gateway, MayLeave, Reply, Request, Windows};
use tokio::time::{Instant, sleep};

use crate::answers;
use crate::fair::{Campaign, RATE, live};

const MS: Duration = Duration::from_millis(1);
const TWO_CAMPAIGNS: [Campaign; 2] = [(0, 900, Priority::Normal), (0, 900, Priority::High)];

/// Every request: how long after the first it left, and to whom.
type Left = Vec<(Duration, u64)>;

/// Answers after 40 ms, and as the script says from its time on: one answer for each request.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<VecDeque<(Duration, Reply)>>>,
    /// Of one recipient every request is refused, this often.
    refuses: Option<(u64, usize)>,
    began: Arc<Mutex<Option<Instant>>>,
    left: Arc<Mutex<Left>>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = (Duration, Reply)>) -> Self {
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        Self { script, refuses: None, began: Arc::default(), left: Arc::default() }
    }

    fn left(&self) -> Left {
        self.left.lock().unwrap().clone()
    }
}

#[async_trait]
impl Gateway for Scripted {
    async fn send_if(&self, request: Request, may_leave: &MayLeave<'_>) -> Option<Answer> {
        if !may_leave() {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let to: u64 = body["to"].as_str().unwrap().parse().unwrap();
        let now = Instant::now();
        let age = now - *self.began.lock().unwrap().get_or_insert(now);
        self.left.lock().unwrap().push((age, to));
        let again = self.left.lock().unwrap().iter().filter(|(_, other)| *other == to).count();
        let refused = self.refuses.filter(|(whom, times)| *whom == to && again <= *times).map(|_| answers::too_fast("sec", 1));
        let scripted = self.script.lock().unwrap().pop_front_if(|(from, _)| *from <= age).map(|(_, reply)| reply);
        sleep(40 * MS).await;
        Some(Answer { reply: refused.or(scripted).unwrap_or_else(|| answers::accepted(to)), windows: Windows::default() })
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn too_fast_holds_every_campaign_of_the_account_for_as_long_as_asked_and_a_shorter_one_does_not_shorten_it() {
    let gateway = Scripted::new([(seconds(10), answers::too_fast("min", 5)), (seconds(10), answers::too_fast("sec", 1))]);
    live(&TWO_CAMPAIGNS, 40, Arc::new(gateway.clone()), async |_| ());
    let left = gateway.left();
    let refused = left.iter().find(|(at, _)| *at >= seconds(10)).unwrap();
    let (read, over) = (refused.0 + 41 * MS, refused.0 + 40 * MS + seconds(5));
    let held: Vec<_> = left.iter().filter(|(at, _)| (read..over).contains(at)).collect();
    assert!(held.is_empty(), "{} left while the account was held: {held:?}", held.len());
    let after: Vec<_> = left.iter().filter(|(at, _)| (over..over + seconds(1)).contains(at)).collect();
    assert!(after.len() >= RATE as usize * 9 / 10 && after.len() <= RATE as usize, "{} in the second after it", after.len());
    let quarter = after.iter().filter(|(at, _)| *at < over + 250 * MS).count();
    assert!(quarter <= RATE as usize / 4 + 5, "a burst of {quarter} after it");
    let again = left.iter().filter(|(at, to)| *to == refused.1 && *at >= over).count();
    assert_eq!(again, 1, "what was refused is sent once more");
}

#[test]
fn waiting_for_the_rate_uses_no_attempt_however_often() {
    let whom = 905_300_000_000 + 400 * 1000;
    let gateway = Scripted { refuses: Some((whom, 30)), ..Scripted::new([]) };
    live(&TWO_CAMPAIGNS, 180, Arc::new(gateway.clone()), async |_| ());
    let times = gateway.left().iter().filter(|(_, to)| *to == whom).count();
    assert_eq!(times, 31, "thirty times refused, then taken");
}

#[test]
fn a_wall_clock_that_steps_both_ways_changes_nothing_of_the_pace() {
    let calm = each_second(&[]);
    assert!(calm.iter().sum::<i64>() > 1100 && calm.contains(&0), "it sends, and is held: {calm:?}");
    // the fifth and sixth while the account is held
    for steps in [[HOUR, -2 * HOUR, 700, -700, HOUR, -HOUR, 24 * HOUR], [-HOUR, -HOUR, 500, 2 * HOUR, 0, HOUR, -24 * HOUR]] {
        let stepped = each_second(&steps);
        // The one that was refused comes back when its delay is over, and that is a time of the wall clock.
        let alike = calm.iter().zip(&stepped).all(|(calm, stepped)| (calm - stepped).abs() <= 1);
        assert!(alike, "{steps:?}: {stepped:?} instead of {calm:?}");
    }
}

const HOUR: i64 = 3_600_000;

/// How many left in each of 20 seconds, of which five are held, while the wall clock steps every two seconds by so many milliseconds.
fn each_second(steps: &[i64]) -> Vec<i64> {
    let gateway = Scripted::new([(seconds(10), answers::too_fast("min", 5))]);
    live(&TWO_CAMPAIGNS, 21, Arc::new(gateway.clone()), async |clock: Clock| {
        for step in steps {
            sleep(seconds(2)).await;
            clock.step_wall(*step);
        }
    });
    let left = gateway.left();
    (0..20).map(|second| left.iter().filter(|(at, _)| at.as_secs() == second).count() as i64).collect()
}
