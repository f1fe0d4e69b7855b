//! Waiting jobs are paused and resumed again and again: none is lost, repeated, or counted against any limit.

use std::time::Duration;

use campaignd::engine::{CampaignState, CampaignView};
use campaignd::gateway::simulator::{DEFAULT_BALANCE, DEFAULT_KEY};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::daemon_round::enqueue;
use crate::plan::Plan;
use crate::support::RabbitNode;
use crate::verdict::{Promise, compare};
use crate::world::World;

/// RabbitMQ drops a job that came back this often: see `deploy/rabbitmq`. A pause may count one return of what was on its way.
const DELIVERY_LIMIT: u64 = 1_000_000;
/// Jobs at the head of the queue whose returns are looked at; more than were ever on their way at once.
const LOOKED_AT: u64 = 2_000;
/// Counts of a large queue take their time.
const COUNTED: Duration = Duration::from_secs(60);

/// Who pauses what.
#[derive(Debug, Clone, Copy)]
enum Way {
    Campaign,
    Account,
    /// The balance is used up: the policy pauses the account.
    Balance,
}

/// Pauses `jobs` waiting jobs this often on their way, each time in another of the three [`Way`]s.
pub(crate) async fn run(jobs: u64, pauses: u64, node: &'static RabbitNode) -> String {
    let began = Instant::now();
    let plan = Plan::calm(jobs);
    let mut world = World::new(&plan, Some(node)).await;
    world.daemon.start();
    world.daemon.until_ready().await;
    world.daemon.post("accounts/main/pause", "{}").await;
    enqueue(&mut world, &[]).await;
    let there = world.wait_for(COUNTED, async |world| queue(world)["messages_ready"] == jobs).await;
    assert!(there, "{jobs} were published; the queue says {:#}", queue(&world));
    world.daemon.post("accounts/main/resume", "{}").await;
    let mut rest = jobs;
    let mut returns = 0;
    for nth in 1..=pauses {
        let way = [Way::Campaign, Way::Account, Way::Balance][(nth % 3) as usize];
        rest = pause_once(&mut world, way, jobs * nth / (pauses + 1), rest).await;
        returns = returned(&world);
        assert!(returns <= 2 * nth, "after {nth} pauses a job has come back {returns} times");
        resume(&world, way).await;
    }
    world.finish().await;
    let compared = compare(&world, "park", &plan.park, Promise::Park { unknown: 0 }).await;
    assert_eq!((compared.wrong, compared.copies), (vec![], 0));
    let letters = world.daemon.dead("park").await;
    assert!(letters.iter().all(|letter| letter.attempts == 1), "a pause used up an attempt: {letters:#?}");
    format!(
        "{jobs} jobs paused and resumed {pauses} times: sent {}, dead {}, copies 0, missing 0; most returns of one job {returns} of \
         {DELIVERY_LIMIT}; {:.0} s",
        compared.sent,
        compared.dead,
        began.elapsed().as_secs_f32()
    )
}

/// Lets some be sent, pauses, and compares what waits: in the counts, in the queue. Gives what is left.
async fn pause_once(world: &mut World, way: Way, goal: u64, before: u64) -> u64 {
    let limit = Duration::from_secs(120);
    let on = world.wait_for(limit, async |world| world.simulator.controls().read_books(|books| books.accepted) >= goal).await;
    assert!(on, "it does not go on after a pause; log:\n{}", world.daemon.log());
    match way {
        Way::Campaign => drop(world.daemon.post("campaigns/park/pause", "{}").await),
        Way::Account => drop(world.daemon.post("accounts/main/pause", "{}").await),
        Way::Balance => world.simulator.controls().set_balance(Some(DEFAULT_KEY), 0).unwrap(),
    }
    let held = |view: &CampaignView| view.state == CampaignState::Paused && view.in_flight == 0;
    let view = world.daemon.until_campaign("park", "come to rest", held).await;
    let rest = view.waiting + view.delayed;
    assert!(rest < before && rest > 0, "{rest} of {before} wait: this pause proves nothing");
    // An acknowledgement may get lost between a closing channel and its queue: that job comes again and is recognised.
    let all_back = world.wait_for(COUNTED, async |world| queue(world)["messages_ready"].as_u64() >= Some(rest)).await;
    assert!(all_back, "{rest} wait by the counts; the queue says {:#}", queue(world));
    let requests = world.simulator.books().requests;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.simulator.books().requests, requests, "paused is paused");
    rest
}

async fn resume(world: &World, way: Way) {
    match way {
        Way::Campaign => drop(world.daemon.post("campaigns/park/resume", "{}").await),
        Way::Account => drop(world.daemon.post("accounts/main/resume", "{}").await),
        Way::Balance => {
            world.simulator.controls().set_balance(Some(DEFAULT_KEY), DEFAULT_BALANCE).unwrap();
            world.daemon.post("accounts/main/resume", "{}").await;
        }
    }
}

/// What RabbitMQ says of the campaign's queue.
fn queue(world: &World) -> Value {
    let queue = world.rabbit.as_ref().unwrap().management("GET", "queues", "campaignd.jobs.park", "");
    let limit = &queue["arguments"]["x-delivery-limit"];
    assert!(limit.is_null() || *limit == DELIVERY_LIMIT, "{queue:#}");
    queue
}

/// The most often that a job at the head of the queue has come back. Looking counts as well, hence twice a pause at most.
fn returned(world: &World) -> u64 {
    let body = format!(r#"{{"count":{LOOKED_AT},"ackmode":"ack_requeue_true","encoding":"auto"}}"#);
    let jobs = world.rabbit.as_ref().unwrap().management("POST", "queues", "campaignd.jobs.park/get", &body);
    let count = |job: &Value| job["properties"]["headers"]["x-delivery-count"].as_u64().unwrap_or(0);
    jobs.as_array().unwrap().iter().map(count).max().unwrap()
}
