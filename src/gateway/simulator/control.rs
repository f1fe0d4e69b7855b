//! The HTTP endpoints under `/sim/`: the books for whoever wants to compare, and everything that can be steered.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::KeyState;
use super::books::Ending;
use super::controls::{Controls, NoSuchKey};
use super::delay::{Delay, Tail};
use super::fault::Fault;
use crate::pacer::Limits;
use crate::units::{Length, show_duration};

/// The endpoints, for help texts.
pub const ENDPOINTS: &str = "\
GET  /sim/books            who got how many messages: {\"accepted\": 2, \"recipients\": {\"905321234567\": 2}}
GET  /sim/books/NUMBER     the same for one recipient
GET  /sim/stats            requests by outcome and by Meta's number; keys with balance and limits; faults
GET  /sim/arrivals?after=0  when each request came, in µs since the start, and how it ended; at most 10,000 later than `after`
GET  /sim/magic            the table of magic recipients
POST /sim/balance          {\"balance\": 100} or {\"add\": 50}
POST /sim/limits           {\"limits\": \"80/s, 4800/min\"} or {\"limits\": \"unlimited\"}
POST /sim/key              {\"state\": \"revoked\"}; also active, or a code: AUTH_004, AUTH_005, BILL_002, WABA_001, SEC_001
POST /sim/faults           {\"html\": 0.5, \"meta:131026\": 2}: per cent of requests; replaces the faults before
POST /sim/latency          {\"latency\": \"50ms\", \"jitter\": \"20ms\", \"tail\": \"260ms=3\"}: 3 % of ways take up to 260 ms longer
POST /sim/reset            forgets every request; keys, balances, faults and latency stay
Where a key matters, \"key\": \"sk_…\" means that one; without it every key.";

type Refusal = (StatusCode, Json<Value>);
type Outcome = Result<Json<Value>, Refusal>;

pub(super) fn router(controls: Controls) -> Router {
    Router::new()
        .route("/sim/books", get(books))
        .route("/sim/books/{number}", get(one_recipient))
        .route("/sim/stats", get(stats))
        .route("/sim/arrivals", get(arrivals))
        .route("/sim/magic", get(|| async { super::magic_table() }))
        .route("/sim/balance", post(balance))
        .route("/sim/limits", post(limits))
        .route("/sim/key", post(key))
        .route("/sim/faults", post(faults))
        .route("/sim/latency", post(latency))
        .route("/sim/reset", post(reset))
        .with_state(controls)
}

async fn books(State(controls): State<Controls>) -> Json<Value> {
    let books = controls.books();
    let recipients: BTreeMap<String, u32> = books.recipients().map(|(number, times)| (number.to_string(), times)).collect();
    Json(json!({"accepted": books.accepted, "recipients": recipients}))
}

async fn one_recipient(State(controls): State<Controls>, Path(number): Path<u64>) -> Json<Value> {
    Json(json!({"recipient": number.to_string(), "accepted": controls.read_books(|books| books.times(number))}))
}

#[derive(Serialize)]
struct KeyLine {
    key: String,
    balance: i64,
    limits: String,
    state: String,
}

async fn stats(State(controls): State<Controls>) -> Json<Value> {
    let shown = |key: &str| format!("{}…", key.chars().take(4).collect::<String>());
    let keys: Vec<KeyLine> = controls
        .keys()
        .into_iter()
        .map(|(key, report)| KeyLine {
            key: shown(&key),
            balance: report.balance,
            limits: report.limits.to_string(),
            state: report.state.to_string(),
        })
        .collect();
    let faults: BTreeMap<String, f64> =
        controls.faults().into_iter().map(|(fault, percent)| (fault.to_string(), percent)).collect();
    let uptime = show_duration(controls.uptime());
    Json(controls.read_books(|books| {
        json!({
            "requests": books.requests,
            "accepted": books.accepted,
            "sandboxed": books.sandboxed,
            "recipients": books.recipients().len(),
            "more_than_once": books.recipients().filter(|(_, times)| *times > 1).count(),
            "outcomes": books.outcomes,
            "meta": books.meta,
            "keys": keys,
            "faults": faults,
            "uptime": uptime,
        })
    }))
}

/// Arrivals told at once.
const MOST_ARRIVALS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn arrivals(State(controls): State<Controls>, Query(After { after }): Query<After>) -> Json<Value> {
    let now = controls.uptime();
    let arrivals = controls.arrivals(Duration::from_micros(after), MOST_ARRIVALS);
    let lines: Vec<Value> = arrivals.iter().map(|arrival| json!([microseconds(arrival.at), word(arrival.ending)])).collect();
    Json(json!({"now": microseconds(now), "arrivals": lines}))
}

fn microseconds(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

const fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Accepted => "accepted",
        Ending::Sandboxed => "sandboxed",
        Ending::RateLimited => "rate-limited",
        Ending::NotSent => "not-sent",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Balance {
    key: Option<String>,
    balance: Option<i64>,
    add: Option<i64>,
}

async fn balance(State(controls): State<Controls>, Json(order): Json<Balance>) -> Outcome {
    let key = order.key.as_deref();
    match (order.balance, order.add) {
        (Some(balance), None) => done(controls.set_balance(key, balance)),
        (None, Some(amount)) => done(controls.add_balance(key, amount)),
        _ => Err(refuse("give either balance or add")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLimits {
    key: Option<String>,
    limits: String,
}

async fn limits(State(controls): State<Controls>, Json(order): Json<NewLimits>) -> Outcome {
    let limits: Limits = order.limits.parse().map_err(refuse)?;
    done(controls.set_limits(order.key.as_deref(), limits))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewState {
    key: Option<String>,
    state: String,
}

async fn key(State(controls): State<Controls>, Json(order): Json<NewState>) -> Outcome {
    let state: KeyState = order.state.parse().map_err(refuse)?;
    done(controls.set_key_state(order.key.as_deref(), state))
}

async fn faults(State(controls): State<Controls>, Json(order): Json<BTreeMap<String, f64>>) -> Outcome {
    let faults: Result<Vec<(Fault, f64)>, _> =
        order.into_iter().map(|(name, percent)| name.parse().map(|fault| (fault, percent))).collect();
    controls.set_faults(super::check_faults(faults.map_err(refuse)?).map_err(refuse)?);
    done(Ok(()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLatency {
    latency: Length,
    #[serde(default)]
    jitter: Option<Length>,
    #[serde(default)]
    tail: Option<String>,
}

async fn latency(State(controls): State<Controls>, Json(order): Json<NewLatency>) -> Outcome {
    let tail = order.tail.map(|text| text.parse::<Tail>()).transpose().map_err(refuse)?.unwrap_or_default();
    let jitter = order.jitter.map(|jitter| jitter.0).unwrap_or_default();
    controls.set_delay(Delay { latency: order.latency.0, jitter, tail });
    done(Ok(()))
}

async fn reset(State(controls): State<Controls>) -> Outcome {
    controls.reset();
    done(Ok(()))
}

fn done(result: Result<(), NoSuchKey>) -> Outcome {
    result.map(|()| Json(json!({"ok": true}))).map_err(refuse)
}

fn refuse(reason: impl ToString) -> Refusal {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": reason.to_string()})))
}
