//! One round of `campaignd send` on the embedded broker: whatever ends it, the same command goes on, until it has done its work.

use crate::daemon::Daemon;
use crate::plan::Plan;
use crate::report::Report;
use crate::verdict::{Promise, compare};
use crate::world::World;

/// Runs it; panics when it does not come to an end.
pub(crate) async fn run(plan: &Plan) -> Report {
    let mut world = World::new(plan, None).await;
    let (name, people) = if plan.resend.is_empty() { ("park", &plan.park) } else { ("resend", &plan.resend) };
    let sending = send(&world, name);
    let as_daemon = std::mem::replace(&mut world.daemon, sending);
    world.daemon.start();
    for strike in &plan.strikes {
        world.meet(*strike).await;
    }
    world.finish().await;
    // What is in the state directory is told by the daemon on the same directory.
    world.daemon = as_daemon;
    world.daemon.start();
    world.daemon.until_ready().await;
    let most = world.tally.unknowing * plan.in_flight;
    let promise = if plan.resend.is_empty() { Promise::Park { unknown: most } } else { Promise::Resend { copies: most } };
    let compared = compare(&world, name, people, promise).await;
    Report::new(plan, &mut world, &[compared])
}

fn send(world: &World, name: &str) -> Daemon {
    let state = world.state().display().to_string();
    let recipients = format!("{name}.csv");
    let args = ["--config", "campaignd.toml", "send", "--campaign", name, "--on-unknown", name, "--recipients", &recipients];
    let more = ["--message", "message.json", "--account", "main", "--state-dir", &state];
    Daemon::command(world.dir.path(), &[&args[..], &more].concat())
}
