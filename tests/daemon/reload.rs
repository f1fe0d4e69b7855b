//! SIGHUP: the configuration is read again while a campaign runs. Nothing is interrupted, and what is wrong changes nothing.

use std::fs;

use campaignd::campaign::Options;
use campaignd::engine::CampaignState;
use campaignd::gateway::simulator::{Code, Fault, KeyState};

use crate::stage::{Setup, Stage, people};

impl Stage {
    /// Replaces something in the configuration and asks the daemon to read it.
    fn reload(&self, from: &str, to: &str) {
        let path = self.dir.path().join("campaignd.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        self.signal("HUP");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_rate_holds_at_once_and_interrupts_nothing() {
    let stage = Stage::open(Setup { rate: "20/s", ..Setup::default() }).await;
    stage.enqueue("tempo", "main", Options::default(), &people(600)).await;
    stage.until_campaign("tempo", "begin", |v| v.sent > 10).await;
    stage.reload("rate = \"20/s\"", "rate = \"unlimited\"");
    let view = stage.until_state("tempo", CampaignState::Finished).await; // at 20/s it would take longer than anybody waits
    assert_eq!((view.sent, view.dead, view.enqueued), (600, 0, 600));
    assert!(stage.account("main").await.unwrap().second.is_none());
    assert!(stage.books().values().all(|times| *times == 1));
    assert_eq!(stage.log_count("reloaded"), 1, "{}", stage.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_named_with_its_line_and_changes_nothing() {
    let stage = Stage::open(Setup { rate: "50/s", ..Setup::default() }).await;
    stage.enqueue("steady", "main", Options::default(), &people(100)).await;
    stage.reload("rate = \"50/s\"", "rate = \"fifty\"");
    stage.logged("not reloaded, everything goes on as before").await;
    assert!(stage.log().contains("campaignd.toml:8"), "{}", stage.log());
    assert_eq!(stage.account("main").await.unwrap().second.unwrap().limit, 50);
    assert_eq!(stage.until_state("steady", CampaignState::Finished).await.sent, 100);
    stage.reload("listen = \"", "listen = \"127.0.0.1:1\" #");
    stage.logged("not reloaded").await;
    stage.reload("rate = \"fifty\"", "rate = \"60/s\"");
    stage.logged("[admin] has changed: that takes effect at the next start").await;
    assert_eq!(stage.account("main").await.unwrap().second.unwrap().limit, 60, "the rest holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_come_and_go() {
    let stage = Stage::open(Setup { accounts: vec!["main", "second"], rate: "50/s", ..Setup::default() }).await;
    stage.enqueue("leaves", "second", Options::default(), &people(300)).await;
    stage.until_campaign("leaves", "begin", |v| v.sent > 10).await;
    stage.reload("[accounts.second]\n", "[accounts.third]\n");
    let view = stage
        .until_campaign("leaves", "wait with nothing in flight", |v| v.state == CampaignState::Paused && v.in_flight == 0)
        .await;
    assert!(view.account_pause.unwrap().pause.cause.contains("does not stand in the configuration"));
    assert!(!stage.account("second").await.unwrap().configured);
    let sent = stage.books().len();
    stage.enqueue("comes", "third", Options::default(), &people(320)[300..]).await;
    assert_eq!(stage.until_state("comes", CampaignState::Finished).await.sent, 20, "a new account needs no restart");
    assert_eq!(stage.books().len(), sent + 20, "and the one that is gone sends nothing");
    stage.reload("[accounts.third]\n", "[accounts.second]\n");
    let view = stage.until_state("leaves", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (300, 0));
    assert!(stage.books().values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_and_other_rules_hold_for_what_is_sent_from_then_on() {
    let stage = Stage::open(Setup { accounts: vec!["main", "second"], rate: "50/s", ..Setup::default() }).await;
    fs::write(stage.dir.path().join("main.key"), "sk_second").unwrap();
    let rules = campaignd::policy::BUILTIN_TEXT.replacen("invalid-number", "no-such-number", 1);
    fs::write(stage.dir.path().join("rules.toml"), rules).unwrap();
    stage.reload("[state]", "[policy]\nfile = \"rules.toml\"\n[state]");
    stage.logged("reloaded").await;
    stage.simulator.controls().set_key_state(Some("sk_main"), KeyState::Failing(Code::Auth001)).unwrap();
    let refused: Fault = "meta:131026".parse().unwrap();
    let mut recipients = people(10);
    recipients.push(refused.recipient(0));
    stage.enqueue("fresh", "main", Options::default(), &recipients).await;
    let view = stage.until_state("fresh", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (10, 1), "by the new key");
    assert_eq!(stage.dead("fresh").await[0].death.reason, "no-such-number");
}
