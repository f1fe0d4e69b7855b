//! A daemon on the embedded broker, operated from the command line: enqueue, watch, pause, resume, dead letters.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};

use campaignd::gateway::simulator::Options;
use serde_json::Value;

use crate::live::{Scene, Started, err, exits, out, unlimited, until};

const FIRST: u64 = 905_320_000_000;

struct Operated {
    scene: Scene,
    port: u16,
    _daemon: Started,
}

impl Operated {
    fn new(options: Options, rate: &str) -> Self {
        let scene = Scene::new(options);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "[broker]\nkind = \"embedded\"\n[gateway]\nbase-url = \"{}\"\nrate = \"{rate}\"\n[accounts.main]\nkey-env = \"TEST_KEY\"\n[state]\ndir = \"state\"\n[admin]\nlisten = \"127.0.0.1:{port}\"\n",
            scene.gateway.base_url()
        );
        scene.file("campaignd.toml", &config);
        let mut command = scene.command(&["--config", "campaignd.toml", "run"]);
        let daemon = Started(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let operated = Self { scene, port, _daemon: daemon };
        until("the daemon answers", || operated.run(&["campaign", "list"]).status.success());
        operated
    }

    fn run(&self, args: &[&str]) -> Output {
        self.scene.command(&["--config", "campaignd.toml"]).args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        exits(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn enqueue(&self, id: &str) -> Output {
        self.run(&["enqueue", "--campaign", id, "--recipients", "recipients.csv", "--message", "message.json"])
    }
}

#[test]
fn a_campaign_from_file_to_dead_letters_and_back() {
    let operated = Operated::new(unlimited(), "unlimited");
    let (lost, twice) = (436_701_310_260_001, 436_721_310_261_001);
    operated.scene.recipients((0..50).map(|n| FIRST + n).chain([lost, twice]));
    exits(&operated.enqueue("spring"), 0);
    let watched = operated.run(&["campaign", "watch", "spring"]);
    exits(&watched, 0);
    assert!(out(&watched).contains("finished, 2 failed"), "{}", out(&watched));

    let groups = operated.json(&["dead", "groups", "spring", "--json"]);
    assert_eq!((groups[0]["meta"].as_u64(), groups[0]["count"].as_u64()), (Some(131_026), Some(2)));
    let listed = out(&operated.run(&["dead", "list", "spring"]));
    assert!(listed.contains("4367…01") && !listed.contains(&lost.to_string()), "{listed}");

    // Several at once are not released without a word.
    let refused = operated.run(&["dead", "requeue", "spring"]);
    exits(&refused, 64);
    assert!(err(&refused).contains("2 jobs") && err(&refused).contains("--yes"), "{}", err(&refused));
    exits(&operated.run(&["dead", "requeue", "spring", "--meta", "131026", "--yes"]), 0);
    until("the one that only failed once is sent", || {
        let view = operated.json(&["campaign", "show", "spring", "--json"]);
        (view["sent"].as_u64(), view["dead"].as_u64()) == (Some(51), Some(1))
    });

    // The same file again sends nothing.
    let requests = operated.scene.gateway.books().requests;
    exits(&operated.enqueue("spring"), 0);
    exits(&operated.run(&["campaign", "watch", "spring"]), 0);
    let view = operated.json(&["campaign", "show", "spring", "--json"]);
    assert_eq!((view["enqueued"].as_u64(), view["sent"].as_u64()), (Some(52), Some(51)));
    assert_eq!(operated.scene.gateway.books().requests, requests);
}

#[test]
fn pauses_are_lifted_where_they_were_made_and_a_campaign_can_be_called_off() {
    let operated = Operated::new(unlimited(), "5/s");
    operated.scene.recipients((0..200).map(|n| FIRST + n));
    exits(&operated.run(&["account", "pause", "main", "--because", "lunch"]), 0);
    exits(&operated.enqueue("c"), 0);
    until("the campaign is known", || operated.run(&["campaign", "show", "c"]).status.success());
    let watched = operated.run(&["campaign", "watch", "c"]);
    exits(&watched, 75);
    assert!(out(&watched).contains("lunch") && out(&watched).contains("campaignd account resume main"), "{}", out(&watched));
    exits(&operated.run(&["campaign", "pause", "c", "--for", "1h"]), 0);
    let resumed = operated.run(&["campaign", "resume", "c"]);
    exits(&resumed, 75);
    assert!(out(&resumed).contains("its account is paused"), "{}", out(&resumed));
    assert_eq!(operated.scene.gateway.books().requests, 0);
    exits(&operated.run(&["account", "resume", "main"]), 0);
    until("it sends", || operated.scene.gateway.books().accepted > 0);
    exits(&operated.run(&["campaign", "cancel", "c"]), 64);
    exits(&operated.run(&["campaign", "cancel", "c", "--yes"]), 0);
    let watched = operated.run(&["campaign", "watch", "c", "--json"]);
    exits(&watched, 0);
    let view = operated.json(&["campaign", "show", "c", "--json"]);
    let number = |name: &str| view[name].as_u64().unwrap();
    assert_eq!(number("sent") + number("cancelled"), 200, "{view}");
    // Nothing more is taken for it.
    for more in [&["--dry-run"][..], &[]] {
        let args = ["enqueue", "--campaign", "c", "--recipients", "recipients.csv", "--message", "message.json"];
        let refused = operated.run(&[&args[..], more].concat());
        exits(&refused, 65);
        let said = [out(&refused), err(&refused)].concat();
        assert!(said.contains("campaign c was cancelled") && said.contains("another campaign id"), "{said}");
    }
    assert_eq!(operated.json(&["campaign", "show", "c", "--json"])["enqueued"].as_u64(), Some(200));
    exits(&operated.run(&["campaign", "show", "nothing"]), 65);
}

#[test]
fn web_pages_cannot_operate_the_daemon() {
    let operated = Operated::new(unlimited(), "unlimited");
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", operated.port)).unwrap();
        stream.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let pause =
        "POST /v1/accounts/main/pause HTTP/1.1\nHost: HOST\nConnection: close\nContent-Type: TYPE\nContent-Length: 2\n\n{}";
    let post = |host: &str, kind: &str| ask(&pause.replace("HOST", host).replace("TYPE", kind));
    assert!(post("evil.example", "application/json").starts_with("HTTP/1.1 403"));
    assert!(post("localhost", "text/plain").starts_with("HTTP/1.1 415"));
    let origin = "application/json\nOrigin: https://evil.example";
    assert!(post("localhost", origin).starts_with("HTTP/1.1 403"));
    assert!(post("localhost", "application/json").starts_with("HTTP/1.1 204"));
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n"));
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/nothing").starts_with("HTTP/1.1 404") && get("/nothing").contains("what_to_do"));
    assert!(get("/v1/campaigns/BAD%20ID").starts_with("HTTP/1.1 400"));
    until("it is ready", || get("/readyz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_its_address() {
    let scene = Scene::new(unlimited());
    scene.file("campaignd.toml", "[admin]\nlisten = \"127.0.0.1:1\"\n");
    let output = scene.run(&["--config", "campaignd.toml", "campaign", "list"]);
    exits(&output, 69);
    let said = err(&output);
    assert!(said.contains("127.0.0.1:1") && said.contains("campaignd.toml") && said.contains("systemctl start"), "{said}");
}
