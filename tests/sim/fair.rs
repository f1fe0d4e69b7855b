//! Fair turns: campaigns of one account share its rate by their priorities, a small one need not wait for a large one, none starves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use campaignd::alert::Alerts;
use campaignd::broker::{ANNOUNCEMENT, Broker, Headers, Message, Target};
use campaignd::campaign::{Announcement, Options, Priority};
use campaignd::clock::Clock;
use campaignd::dice::Dice;
use campaignd::engine::{Account, Engine, Parts, Settings};
use campaignd::gateway::{Answer, Gateway, MayLeave, Request, Windows};
use campaignd::job::CampaignId;
use campaignd::pacer::Limits;
use campaignd::policy::Rules;
use campaignd::store::memory::MemoryStore;
use rand::SeedableRng;
use tokio::task::JoinSet;

use crate::answers;
use crate::broker::SimBroker;
use crate::plan::Plan;
use crate::witness::Witness;

/// Requests per second of the account.
pub(crate) const RATE: u32 = 80;

/// Takes every message after 40 ms, and notes of which campaign each was.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<usize>>>);

#[async_trait]
impl Gateway for Recorder {
    async fn send_if(&self, request: Request, may_leave: &MayLeave<'_>) -> Option<Answer> {
        if !may_leave() {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let to: u64 = body["to"].as_str().unwrap().parse().unwrap();
        self.0.lock().unwrap().push((to % 1000) as usize);
        tokio::time::sleep(Duration::from_millis(40)).await;
        Some(Answer { reply: answers::accepted(to), windows: Windows::default() })
    }
}

/// A campaign: when it is enqueued, how many jobs, and its priority.
pub(crate) type Campaign = (u64, u64, Priority);

/// The campaigns in the order in which their requests left in so many seconds.
fn order(campaigns: &[Campaign], seconds: u64) -> Vec<usize> {
    let recorder = Recorder::default();
    live(campaigns, seconds, Arc::new(recorder.clone()), async |_| ());
    let order = recorder.0.lock().unwrap();
    order.clone()
}

/// An engine with these campaigns and this gateway lives for so many seconds, while something else happens.
pub(crate) fn live(campaigns: &[Campaign], seconds: u64, gateway: Arc<dyn Gateway>, meanwhile: impl AsyncFnOnce(Clock)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let broker = SimBroker::new(1, Plan::calm(1).broker, true, Witness::new());
        let clock = Clock::simulated("2026-11-22T12:00:00Z".parse().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(broker.clone().run());
        let engine = engine(&broker, gateway, clock.clone());
        tasks.spawn(async move { _ = engine.run(std::future::pending::<()>()).await });
        for (number, (from, jobs, priority)) in campaigns.iter().copied().enumerate() {
            let broker = broker.clone();
            tasks.spawn(async move {
                tokio::time::sleep(Duration::from_secs(from)).await;
                enqueue(&broker, number, jobs, priority).await;
            });
        }
        tokio::join!(tokio::time::sleep(Duration::from_secs(seconds)), meanwhile(clock));
        tasks.shutdown().await;
    });
}

fn engine(broker: &SimBroker, gateway: Arc<dyn Gateway>, clock: Clock) -> Engine {
    let limits = Limits { second: Some(RATE), minute: Some(RATE * 60) };
    let account = Account { gateway, plan: limits.into(), max_in_flight: 64 };
    let name = "main".parse().unwrap();
    let parts = Parts {
        broker: Arc::new(broker.clone()),
        store: Arc::new(MemoryStore::default()),
        accounts: BTreeMap::from([("main".parse().unwrap(), account)]),
        rules: Arc::new(Rules::builtin()),
        alerts: Alerts::channel().0,
        clock,
        dice: Dice::seed_from_u64(1),
        settings: Settings { default_account: Some(name), ..Settings::default() },
    };
    Engine::build(parts).unwrap().0
}

async fn enqueue(broker: &SimBroker, number: usize, jobs: u64, priority: Priority) {
    let id: CampaignId = format!("c{number}").parse().unwrap();
    let options = Options { priority, ..Options::default() };
    let announcement =
        Announcement { campaign_id: id.clone(), account: None, options, jobs: Some(jobs), batch: Some("file".into()) };
    let headers = Headers { kind: Some(ANNOUNCEMENT.into()), ..Headers::default() };
    let message = Message { body: serde_json::to_vec(&announcement).unwrap().into(), headers };
    broker.publish(Target::Announce(&id), &message).await.unwrap();
    let headers = Headers { batch: Some("file".into()), ..Headers::default() };
    for job in 0..jobs {
        let to = 905_300_000_000 + job * 1000 + number as u64;
        let body = format!(r#"{{"campaign_id":"{id}","to":"{to}","message":{{"type":"text","text":{{"body":"hi"}}}}}}"#);
        let message = Message { body: Bytes::from(body), headers: headers.clone() };
        broker.publish(Target::Jobs(&id), &message).await.unwrap();
    }
}

fn count(order: &[usize], campaign: usize) -> usize {
    order.iter().filter(|other| **other == campaign).count()
}

#[test]
fn campaigns_share_the_rate_by_their_priorities() {
    use Priority::{High, Low, Normal};
    let campaigns = [Low, Low, Normal, Normal, Normal, High, High].map(|priority| (0, 3000, priority));
    let order = order(&campaigns, 45);
    let later = &order[order.len() - 30 * RATE as usize..]; // all have begun
    let turn: u32 = campaigns.iter().map(|(_, _, priority)| priority.jobs_per_turn()).sum();
    for (number, (_, _, priority)) in campaigns.iter().enumerate() {
        let share = count(later, number) as f64 / later.len() as f64;
        let fair = f64::from(priority.jobs_per_turn()) / f64::from(turn);
        assert!((share / fair - 1.0).abs() < 0.03, "campaign {number} got {share:.4} instead of {fair:.4}");
    }
}

#[test]
fn none_starves_beside_many_and_important_ones() {
    let mut campaigns = vec![(0, 3000, Priority::High); 8];
    campaigns.extend([(0, 3000, Priority::Low); 4]);
    let order = order(&campaigns, 30);
    let later = &order[order.len() - 15 * RATE as usize..];
    for number in 0..campaigns.len() {
        let waits = later.split(|other| *other == number).map(<[usize]>::len).max().unwrap();
        assert!(waits <= 8 * 4 + 4, "campaign {number} waited while {waits} of others left");
    }
}

#[test]
fn a_small_urgent_campaign_need_not_wait_for_a_large_one() {
    let order = order(&[(0, 5000, Priority::Normal), (10, 100, Priority::High)], 40);
    let first = order.iter().position(|number| *number == 1).unwrap();
    let last = order.iter().rposition(|number| *number == 1).unwrap();
    assert_eq!(count(&order, 1), 100);
    // four of six
    assert!(last - first <= 160, "its 100 jobs took {} turns", last - first);
    assert!(order.len() - last > 1000, "the large one goes on");
}
