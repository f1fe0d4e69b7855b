//! Steering the simulated gateway over HTTP while it runs, and reading its books.

use campaignd::gateway::simulator::{DEFAULT_KEY, Running};
use serde_json::{Value, json};

use crate::support::{TO, send, simulator, unlimited, word};

async fn post(gateway: &Running, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/sim/{path}", gateway.base_url());
    let response = reqwest::Client::new().post(url).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(gateway: &Running, path: &str) -> Value {
    reqwest::get(format!("{}/sim/{path}", gateway.base_url())).await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn balance_key_limits_and_faults_change_while_it_runs() {
    let (gateway, client) = simulator(unlimited()).await;
    let steps = [
        ("balance", json!({"balance": 0}), "refused 402 BILL_001"),
        ("balance", json!({"add": 2, "key": DEFAULT_KEY}), "accepted"),
        ("key", json!({"state": "revoked"}), "refused 401 AUTH_001"),
        ("key", json!({"state": "WABA_001"}), "refused 401 WABA_001"),
        ("key", json!({"state": "active"}), "accepted"),
        ("balance", json!({"balance": 100}), "accepted"),
        ("faults", json!({"meta:131026": 100}), "refused 502 GW_001 #131026"),
        ("faults", json!({"unavailable": 100.0}), "unreachable Unavailable"),
        ("faults", json!({}), "accepted"),
        ("latency", json!({"latency": "2ms", "jitter": "1ms", "tail": "2ms=50"}), "accepted"),
        ("limits", json!({"limits": "1/s, 1/min"}), "accepted"),
    ];
    for (path, order, expected) in steps {
        assert_eq!(post(&gateway, path, &order).await, (200, json!({"ok": true})), "{path} {order}");
        assert_eq!(word(&send(&client, TO).await.reply), expected, "{path} {order}");
    }
    assert_eq!(word(&send(&client, TO).await.reply), "refused 429 RATE_001");
}

#[tokio::test]
async fn a_wrong_order_is_refused_and_changes_nothing() {
    let (gateway, client) = simulator(unlimited()).await;
    for (path, order) in [
        ("balance", json!({})),
        ("balance", json!({"balance": 0, "add": 1})),
        ("balance", json!({"balance": 0, "key": "sk_nobody"})),
        ("balance", json!({"balnce": 0})),
        ("limits", json!({"limits": "80"})),
        ("key", json!({"state": "sleepy"})),
        ("faults", json!({"nonsense": 100})),
        ("faults", json!({"html": 60, "empty": 60})),
        ("latency", json!({"latency": 50})),
        ("latency", json!({"latency": "50ms", "tail": "2ms"})),
    ] {
        let url = format!("{}/sim/{path}", gateway.base_url());
        let response = reqwest::Client::new().post(url).json(&order).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 422, "{path} {order}");
        assert_eq!(word(&send(&client, TO).await.reply), "accepted", "{path} {order}");
    }
}

#[tokio::test]
async fn the_books_tell_who_got_what() {
    let (gateway, client) = simulator(unlimited()).await;
    for to in [TO, TO, TO + 1] {
        send(&client, to).await;
    }
    let (first, second) = (TO.to_string(), (TO + 1).to_string());
    assert_eq!(get(&gateway, "books").await, json!({"accepted": 3, "recipients": {first.as_str(): 2, second.as_str(): 1}}));
    assert_eq!(get(&gateway, &format!("books/{first}")).await, json!({"recipient": first, "accepted": 2}));
    assert_eq!(get(&gateway, "books/905000000000").await["accepted"], 0);
    let stats = get(&gateway, "stats").await;
    assert_eq!((&stats["requests"], &stats["more_than_once"]), (&json!(3), &json!(1)));
    assert_eq!(stats["keys"][0]["limits"], "unlimited");
    assert!(!stats.to_string().contains(DEFAULT_KEY));
    assert_eq!(post(&gateway, "reset", &json!({})).await.0, 200);
    assert_eq!(get(&gateway, "books").await, json!({"accepted": 0, "recipients": {}}));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (gateway, _client) = simulator(unlimited()).await;
    for (path, status) in [("v1/wa/message", 405), ("", 404), ("sim/", 404), ("sim/nothing", 404), ("v1/wa/other", 404)] {
        let response = reqwest::get(format!("{}/{path}", gateway.base_url())).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn arrivals_are_told_in_order_and_from_any_time_on() {
    let (gateway, client) = simulator(unlimited()).await;
    post(&gateway, "limits", &json!({"limits": "1/s, 1/min"})).await;
    for _ in 0..2 {
        send(&client, TO).await;
    }
    let all = get(&gateway, "arrivals").await;
    let first = all["arrivals"][0][0].as_u64().unwrap();
    let endings: Vec<&Value> = all["arrivals"].as_array().unwrap().iter().map(|arrival| &arrival[1]).collect();
    assert_eq!(endings, ["accepted", "rate-limited"]);
    assert!(all["now"].as_u64().unwrap() > first);
    let later = get(&gateway, &format!("arrivals?after={first}")).await;
    assert_eq!(later["arrivals"], json!([all["arrivals"][1]]));
}
