//! Every row of the default policy table, end to end: a magic recipient asks for the reply, the daemon does what the table says.

use campaignd::campaign::{OnUnknown, Options};
use campaignd::engine::CampaignState;
use campaignd::gateway::simulator::Fault;

use crate::stage::{Setup, Stage, people};

fn fault(name: &str) -> Fault {
    name.parse().unwrap()
}

/// Rows that pause the account until a person resumes it: the job is held, nobody is dead, and after the resume all is sent.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_pause_the_account_until_resumed() {
    let codes = ["BILL_001", "BILL_002", "AUTH_001", "AUTH_002", "AUTH_003", "AUTH_005", "SEC_001", "WABA_001"];
    let accounts = vec!["bill1", "bill2", "auth1", "auth2", "auth3", "auth5", "sec1", "waba1"];
    let stage = Stage::open(Setup { accounts: accounts.clone(), max_in_flight: 4, ..Setup::default() }).await;
    for (account, code) in accounts.iter().zip(codes) {
        let mut recipients = people(30);
        recipients.insert(10, fault(code).recipient_times(1, 1));
        stage.enqueue(account, account, Options::default(), &recipients).await;
    }
    for (account, code) in accounts.iter().zip(codes) {
        let view = stage
            .until_campaign(account, "pause with nothing under way", |v| v.state == CampaignState::Paused && v.in_flight == 0)
            .await;
        let pause = view.account_pause.expect("the account holds it").pause;
        assert!(pause.cause.contains(code), "{code}: {}", pause.cause);
        assert_eq!((pause.until, pause.by.as_str()), (None, "policy"), "{code}: until resumed");
        assert_eq!(view.dead, 0, "{code}: nobody is dead");
        assert!(!pause.advice.is_empty(), "{code}: a person is told what to do");
        let (status, answer) = stage.post(&format!("campaigns/{account}/resume"), "{}").await;
        let still = answer["still_paused"]["lift_with"].as_str().unwrap_or_default();
        assert_eq!((status, still), (200, format!("campaignd account resume {account}").as_str()), "{answer}");
        let (status, answer) = stage.post(&format!("accounts/{account}/resume"), "{}").await;
        assert_eq!(status, 200, "{answer}");
        let view = stage.until_state(account, CampaignState::Finished).await;
        assert_eq!((view.sent, view.dead), (31, 0), "{code}");
    }
    // The accounts share the recipients, so each of them got one message from each campaign.
    assert!(stage.books().values().all(|times| *times == accounts.len() as u32 || *times == 1));
}

/// Rows that dead-letter the recipient and let the campaign go on.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_dead_letter_the_recipient() {
    let stage = Stage::open(Setup::default()).await;
    let rows: [(&str, Option<&str>, Option<u32>); 8] = [
        ("GW_001", Some("GW_001"), None),
        ("not-registered", Some("GW_001"), None),
        ("outside-window", Some("GW_001"), None),
        ("meta:131026", Some("GW_001"), Some(131_026)),
        ("meta:131049", Some("GW_001"), Some(131_049)),
        ("false-success", Some("GW_001"), Some(131_026)),
        ("WH_001", Some("WH_001"), None),
        ("bare-bad-request", None, None),
    ];
    let mut recipients = people(20);
    recipients.extend(rows.iter().map(|(name, ..)| fault(name).recipient(1)));
    stage.enqueue("rows", "main", Options::default(), &recipients).await;
    let view = stage.until_state("rows", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (20, rows.len() as u64));
    let letters = stage.dead("rows").await;
    for (name, code, meta) in rows {
        let fitting =
            letters.iter().filter(|letter| letter.death.code.as_deref() == code && (meta.is_none() || letter.death.meta == meta));
        assert!(fitting.count() > 0, "no letter for {name}: {letters:#?}");
    }
    assert!(
        letters.iter().all(|letter| letter.attempts == 1 && letter.death.http_status.is_some() && letter.first_seen.is_some())
    );
    assert!(stage.books().values().all(|times| *times == 1));
}

/// Rows that wait or retry: in the end everybody is sent once.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_or_retry() {
    let stage = Stage::open(Setup::default()).await;
    let rows =
        ["RATE_001", "rate-old-form", "rate-garbled", "rate-negative", "unavailable", "AUTH_004", "meta:130429", "meta:131056"];
    let mut recipients = people(20);
    recipients.extend(rows.iter().map(|name| fault(name).recipient_times(1, 1)));
    stage.enqueue("rows", "main", Options::default(), &recipients).await;
    let view = stage.until_state("rows", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (recipients.len() as u64, 0));
    assert!(stage.books().values().all(|times| *times == 1));
}

/// Unknown: parked by default, and the books show which of them had arrived; nobody is sent twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_parked() {
    let stage = Stage::open(Setup::default()).await;
    let lost = ["hang-before", "reset-before", "hang-after", "reset-after", "html", "truncated", "huge", "gateway-timeout"];
    let mut recipients = people(20);
    recipients.extend(lost.iter().map(|name| fault(name).recipient(1)));
    stage.enqueue("unknown", "main", Options::default(), &recipients).await;
    let view = stage.until_state("unknown", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (20, lost.len() as u64));
    assert!(stage.dead("unknown").await.iter().all(|letter| letter.death.reason == "unknown-outcome"));
    let books = stage.books();
    assert_eq!(books.len(), 20 + lost.iter().filter(|name| fault(name).is_sent()).count());
    assert!(books.values().all(|times| *times == 1));
}

/// Unknown with `resend`: nobody is missing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_sent_again_if_the_campaign_says_so() {
    let stage = Stage::open(Setup::default()).await;
    let mut recipients = people(10);
    recipients.extend(["reset-before", "close-after"].iter().map(|name| fault(name).recipient_times(1, 1)));
    let options = Options { on_unknown: OnUnknown::Resend, ..Options::default() };
    stage.enqueue("resend", "main", options, &recipients).await;
    let view = stage.until_state("resend", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (12, 0));
    assert_eq!(stage.books().len(), 12, "nobody is missing");
}

/// Rows that pause the campaign once they repeat; another campaign of the account goes on.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_pause_the_campaign_once_they_repeat() {
    let stage = Stage::open(Setup { max_in_flight: 1, ..Setup::default() }).await;
    for (id, name, most) in [("gw", "GW_001", 10), ("bare", "bare-bad-request", 5), ("nobody-knows", "SYS_400", 5)] {
        let bad: Vec<u64> = (0..20).map(|serial| fault(name).recipient(serial)).collect();
        stage.enqueue(id, "main", Options::default(), &bad).await;
        let view = stage.until_campaign(id, "pause", |v| v.state == CampaignState::Paused && v.in_flight == 0).await;
        assert!(view.pause.is_some() && view.account_pause.is_none(), "{id}: its own pause");
        assert_eq!(view.dead, most, "{id}");
    }
    stage.enqueue("fine", "main", Options::default(), &people(10)).await;
    assert_eq!(stage.until_state("fine", CampaignState::Finished).await.sent, 10);
}

/// Template missing: the campaign stops at the first answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_template_pauses_the_campaign_at_once() {
    let stage = Stage::open(Setup { max_in_flight: 1, ..Setup::default() }).await;
    let mut recipients = people(5);
    recipients.insert(2, fault("meta:132001").recipient_times(1, 1));
    stage.enqueue("template", "main", Options::default(), &recipients).await;
    let view = stage.until_campaign("template", "pause", |v| v.state == CampaignState::Paused && v.in_flight == 0).await;
    assert!(view.pause.is_some_and(|pause| pause.pause.cause.contains("132001")));
}
