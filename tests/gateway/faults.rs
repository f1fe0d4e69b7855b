//! Every magic number through the real client: what the simulator does, and what the client makes of it.

use std::time::Duration;

use campaignd::gateway::simulator::{Code, Fault, Special};
use campaignd::gateway::{Reply, Windows};

use crate::support::{hasty_client, send, simulator, unlimited, word};

fn expected(fault: Fault) -> &'static str {
    use Special as S;
    match fault {
        Fault::Code(code) => match code {
            Code::Auth001 => "refused 401 AUTH_001",
            Code::Auth002 => "refused 401 AUTH_002",
            Code::Auth003 => "refused 401 AUTH_003",
            Code::Auth004 => "refused 500 AUTH_004",
            Code::Auth005 => "refused 500 AUTH_005",
            Code::Wh001 => "refused 403 WH_001",
            Code::Wh002 => "refused 401 WH_002",
            Code::Wh003 => "refused 403 WH_003",
            Code::Rate001 => "refused 429 RATE_001",
            Code::Bill001 => "refused 402 BILL_001",
            Code::Bill002 => "refused 400 BILL_002",
            Code::Waba001 => "refused 401 WABA_001",
            Code::Sec001 => "refused 500 SEC_001",
            Code::Gw001 => "refused 502 GW_001",
            Code::Sys400 => "refused 400 SYS_400",
            Code::Sys500 => "refused 500 SYS_500",
        },
        Fault::Meta(_) => panic!("tested by its number"),
        Fault::Special(special) => match special {
            S::RateMinute | S::RateOldForm | S::RateGarbled | S::RateNegative | S::RateAbsurd => "refused 429 RATE_001",
            S::NotRegistered | S::OutsideWindow | S::NoSuchTemplate | S::MediaNotAccessible | S::NoReason => "refused 502 GW_001",
            S::FalseSuccess => "refused 200 GW_001 #131026",
            S::BareBadRequest => "refused 400 -",
            S::Redirect => "refused 307 -",
            S::Unavailable => "unreachable Unavailable",
            S::HangBefore | S::HangAfter => "unknown Timeout",
            S::ResetBefore | S::CloseBefore | S::ResetAfter | S::CloseAfter => "unknown Reset",
            S::HtmlBefore | S::BareError | S::Html | S::GatewayTimeout | S::Truncated | S::Huge | S::Empty | S::NoMessageId => {
                "unknown Body"
            }
            S::NoHeaders | S::GarbledHeaders => "accepted",
        },
    }
}

#[tokio::test]
async fn every_magic_number_means_what_the_table_says() {
    let (gateway, client) = simulator(unlimited()).await;
    let hasty = hasty_client(&gateway.base_url());
    for fault in Fault::named() {
        let hangs = matches!(fault, Fault::Special(Special::HangBefore | Special::HangAfter));
        let to = fault.recipient(1);
        let reply = send(if hangs { &hasty } else { &client }, to).await.reply;
        assert_eq!(word(&reply), expected(fault), "{fault}");
        // The client's view and the truth agree wherever the client claims to know.
        let times = gateway.books().times(to);
        assert_eq!(times, u32::from(fault.is_sent()), "{fault}");
        match reply {
            Reply::Accepted { .. } => assert_eq!(times, 1, "{fault}"),
            Reply::Refused(_) | Reply::Unreachable(_) => assert_eq!(times, 0, "{fault}"),
            Reply::Unknown(_) => {}
        }
    }
    let books = gateway.books();
    assert_eq!(books.requests, Fault::named().count() as u64);
    assert_eq!(books.outcomes.values().sum::<u64>(), books.requests);
}

#[tokio::test]
async fn metas_numbers_come_through_the_description() {
    let (gateway, client) = simulator(unlimited()).await;
    for number in [0, 1, 100, 80_007, 130_429, 131_026, 131_049, 132_015, 999_999, 2_494_100] {
        let Reply::Refused(refusal) = send(&client, Fault::Meta(number).recipient(3)).await.reply else { panic!("{number}") };
        assert_eq!((refusal.meta, refusal.http_status), (Some(number), 502));
        assert!(refusal.description.starts_with(&format!("(#{number}) ")), "{}", refusal.description);
    }
    assert_eq!(gateway.books().meta.len(), 10);
}

#[tokio::test]
async fn the_four_situations_are_told_in_words() {
    let (_gateway, client) = simulator(unlimited()).await;
    for (special, words) in [
        (Special::NotRegistered, "not registered on WhatsApp"),
        (Special::OutsideWindow, "outside the 24-hour window"),
        (Special::NoSuchTemplate, "template with the name does not exist"),
        (Special::MediaNotAccessible, "media URL is not accessible"),
    ] {
        let Reply::Refused(refusal) = send(&client, Fault::Special(special).recipient(1)).await.reply else { panic!() };
        assert!(refusal.description.contains(words), "{}", refusal.description);
        assert_eq!(refusal.meta, None);
    }
}

#[tokio::test]
async fn retry_after_in_every_form() {
    let (_gateway, client) = simulator(unlimited()).await;
    for (fault, seconds) in [
        (Fault::Code(Code::Rate001), 1),
        (Fault::Special(Special::RateMinute), 60),
        (Fault::Special(Special::RateOldForm), 1),
        (Fault::Special(Special::RateGarbled), 1),
        (Fault::Special(Special::RateNegative), 1),
        (Fault::Special(Special::RateAbsurd), 3_600),
    ] {
        let Reply::Refused(refusal) = send(&client, fault.recipient(1)).await.reply else { panic!("{fault}") };
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(seconds)), "{fault}");
    }
    let Reply::Unreachable(trouble) = send(&client, Fault::Special(Special::Unavailable).recipient(1)).await.reply else {
        panic!()
    };
    assert_eq!(trouble.retry_after, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn a_connection_that_breaks_twice_and_then_holds() {
    let (gateway, client) = simulator(unlimited()).await;
    for special in [Special::ResetBefore, Special::CloseBefore, Special::Unavailable] {
        let to = Fault::Special(special).recipient_times(2, 1);
        assert_ne!(word(&send(&client, to).await.reply), "accepted");
        assert_ne!(word(&send(&client, to).await.reply), "accepted");
        assert_eq!(gateway.books().times(to), 0);
        assert_eq!(word(&send(&client, to).await.reply), "accepted");
        assert_eq!(gateway.books().times(to), 1);
    }
}

#[tokio::test]
async fn headers_that_make_no_sense_say_nothing() {
    let (_gateway, client) = simulator(campaignd::gateway::simulator::Options::default()).await;
    for special in [Special::NoHeaders, Special::GarbledHeaders] {
        let answer = send(&client, Fault::Special(special).recipient(1)).await;
        assert_eq!((word(&answer.reply).as_str(), answer.windows), ("accepted", Windows::default()));
    }
}
