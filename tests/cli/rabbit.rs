//! From a file through a real RabbitMQ and the daemon to the gateway, with the least-privileged users.

use std::process::Stdio;

use crate::live::{Scene, Started, exits, out, unlimited, until};
use crate::process::free_port;
use crate::support::{RabbitNode, User};

const FIRST: u64 = 905_320_000_000;

#[test]
fn a_file_enqueued_twice_reaches_everybody_once() {
    let jobs: u64 = std::env::var("ENQUEUE_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let node = RabbitNode::shared();
    let vhost = node.vhost();
    let scene = Scene::new(unlimited());
    scene.recipients((0..jobs).map(|n| FIRST + n));
    let config = format!(
        "[gateway]\nbase-url = \"{}\"\nrate = \"unlimited\"\n[accounts.main]\nkey-env = \"TEST_KEY\"\n[state]\ndir = \"state\"\n[admin]\nlisten = \"127.0.0.1:{}\"\n",
        scene.gateway.base_url(),
        free_port()
    );
    scene.file("campaignd.toml", &config);
    let command = |user: User, args: &[&str]| {
        let mut command = scene.command(&["--config", "campaignd.toml"]);
        command.args(args).env("CAMPAIGND_BROKER_URI", node.uri(&vhost, user));
        command
    };
    let enqueue = ["enqueue", "--campaign", "spring", "--recipients", "recipients.csv", "--message", "message.json"];

    // Before the daemon has ever run: announcement and jobs wait in the intake.
    let first = command(User::Producer, &enqueue).output().unwrap();
    exits(&first, 0);
    println!("{}", out(&first));
    let daemon = command(User::Daemon, &["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _daemon = Started(daemon);
    let look = |args: &[&str]| command(User::Daemon, args).output().unwrap();
    until("the campaign is known", || look(&["campaign", "show", "spring"]).status.success());
    // While it sends: the same file again.
    exits(&command(User::Producer, &enqueue).output().unwrap(), 0);
    exits(&look(&["campaign", "watch", "spring"]), 0);

    let books = scene.gateway.books();
    assert_eq!((books.recipients().len() as u64, books.more_than_once()), (jobs, vec![]));
    let view: serde_json::Value = serde_json::from_slice(&look(&["campaign", "show", "spring", "--json"]).stdout).unwrap();
    assert_eq!((view["enqueued"].as_u64(), view["sent"].as_u64()), (Some(jobs), Some(jobs)));
}
