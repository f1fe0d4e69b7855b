//! One round of `campaignd run` with RabbitMQ: two campaigns at once, one that parks what nobody knows and one that sends it again.

use std::process::{Child, Stdio};
use std::time::Duration;

use tokio::time::sleep;

use crate::plan::{Fault, Moment, Plan, Strike};
use crate::process::campaignd;
use crate::report::Report;
use crate::support::RabbitNode;
use crate::verdict::{Promise, compare};
use crate::world::World;

/// Publishing is given up by then; it takes less than a second when nothing is in the way.
const PUBLISHED: Duration = Duration::from_secs(150);

/// Runs it; panics when it does not come to an end.
pub(crate) async fn run(plan: &Plan, node: &'static RabbitNode) -> Report {
    let mut world = World::new(plan, Some(node)).await;
    let (while_published, rest): (Vec<Strike>, Vec<Strike>) = plan.strikes.iter().partition(|s| s.at == Moment::Enqueue);
    let (first, rest): (Vec<Strike>, Vec<Strike>) = rest.iter().partition(|strike| strike.share == 0);
    if plan.early {
        enqueue(&mut world, &[]).await;
    }
    world.note("started");
    world.daemon.start();
    for strike in first {
        world.meet(strike).await;
    }
    enqueue(&mut world, &while_published).await;
    world.note("all is published");
    for strike in rest {
        world.meet(strike).await;
    }
    world.finish().await;
    world.note("all is finished");
    let most = world.tally.unknowing * plan.in_flight;
    let park = compare(&world, "park", &plan.park, Promise::Park { unknown: most }).await;
    let resend = compare(&world, "resend", &plan.resend, Promise::Resend { copies: most }).await;
    Report::new(plan, &mut world, &[park, resend])
}

/// Runs `enqueue` for all campaigns at once, and again for as long as it takes; with each of these faults while it runs.
pub(crate) async fn enqueue(world: &mut World, strikes: &[Strike]) {
    for strike in strikes {
        let mut children: Vec<Child> = world.campaigns.iter().map(|name| publish(world, name)).collect();
        if strike.fault == Fault::EnqueueKill {
            world.wait(strike.after).await;
            children.iter_mut().for_each(|child| child.kill().unwrap());
            world.tally.enqueue_kills += 1;
            world.tally.strikes += 1;
        } else {
            world.meet(*strike).await;
        }
        for mut child in children {
            until_gone(world, &mut child).await;
        }
    }
    for name in world.campaigns.clone() {
        while !until_gone(world, &mut publish(world, name)).await {
            sleep(Duration::from_millis(300)).await;
        }
    }
}

fn publish(world: &World, name: &str) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(world.dir.path().join("enqueue.log")).unwrap();
    let mut command = campaignd();
    command.current_dir(world.dir.path()).env("CAMPAIGND_BROKER_URI", world.producer_uri());
    command.args(["--config", "campaignd.toml", "enqueue", "--campaign", name, "--on-unknown", name]);
    command.args(["--recipients", &format!("{name}.csv"), "--message", "message.json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Waits for its end; whether it has published all.
async fn until_gone(world: &mut World, child: &mut Child) -> bool {
    let mut status = None;
    let gone = world
        .wait_for(PUBLISHED, async |_| {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
    assert!(gone, "enqueue does not end");
    status.is_some_and(|status| status.success())
}
