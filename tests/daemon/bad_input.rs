//! Producers make mistakes: what is no job goes to the dead letters with the reason, and the queue goes on.

use campaignd::campaign::Options;
use campaignd::engine::{AccountView, CampaignState, DeadLetter};

use crate::stage::{Setup, Stage, job_body, people};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_dead_lettered_with_its_reason_and_the_queue_goes_on() {
    let stage = Stage::open(Setup::default()).await;
    let id = "bad".parse().unwrap();
    let huge = format!("{{\"campaign_id\":\"bad\",\"to\":\"905320000001\",\"x\":\"{}\"}}", "y".repeat(70_000));
    let cases = [
        ("{not json", "at byte"),
        (r#"{"campaign_id":"bad","to":905320000001,"message":{}}"#, "invalid type"),
        (huge.as_str(), "at most 65536"),
        (r#"{"campaign_id":"a/b","to":"905320000001","message":{"type":"text","text":{"body":"x"}}}"#, "campaign id must be"),
        (&job_body("other", 905_320_000_001), "not the campaign it was routed to"),
        (r#"{"campaign_id":"bad","to":"not a number","message":{"type":"text","text":{"body":"x"}}}"#, "no digit"),
        (r#"{"campaign_id":"bad","to":"905320000001","message":{"type":"text"}}"#, "lacks the object"),
    ];
    stage.publish_bodies(&id, cases.iter().map(|(body, _)| (*body).to_owned()).collect(), None).await;
    stage.enqueue("bad", "main", Options::default(), &people(10)).await;
    let view = stage.until_campaign("bad", "settle all", |v| v.sent == 10 && v.dead == cases.len() as u64).await;
    assert_eq!(view.waiting, 0);
    // The ledger counts a letter before RabbitMQ has confirmed it.
    let whole = async || Some(stage.dead("bad").await).filter(|letters| letters.len() == cases.len());
    let letters = stage.until("the letters", whole).await;
    for (_, reason) in cases {
        assert!(letters.iter().any(|letter| letter.death.description.contains(reason)), "{reason}: {letters:#?}");
    }
    assert!(letters.iter().all(|letter| !letter.death.description.contains("905320000001")), "no recipient in a reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_campaign_is_kept_apart() {
    let stage = Stage::open(Setup::default()).await;
    let shelf = campaignd::job::CampaignId::unsorted();
    stage.publish_bodies(&shelf, vec!["nobody's".into()], None).await;
    let letters: Vec<DeadLetter> = stage
        .until("the letter", async || stage.get("campaigns/_unsorted/dead").await.filter(|l: &Vec<DeadLetter>| !l.is_empty()))
        .await;
    assert_eq!(letters[0].death.reason, "malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_of_an_unknown_account_waits_untouched_until_the_account_is_there() {
    let mut stage = Stage::open(Setup::default()).await;
    stage.enqueue("later", "second", Options::default(), &people(5)).await;
    let view = stage.until_state("later", CampaignState::Paused).await;
    let pause = view.account_pause.expect("the account holds it").pause;
    assert!(pause.cause.contains("second") && pause.advice.contains("[accounts.second]"), "{pause:?}");
    let account: AccountView = stage.account("second").await.expect("listed");
    assert!(!account.configured);
    assert!(stage.books().is_empty());
    let path = stage.dir.path().join("campaignd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}[accounts.second]\nkey-file = \"main.key\"\n")).unwrap();
    stage.signal("TERM");
    assert!(stage.until_gone().await.success());
    stage.start();
    assert_eq!(stage.until_state("later", CampaignState::Finished).await.sent, 5);
}
