//! Is the process alive, and does it take deliveries?

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::Desk;

/// Answer of both probes.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    ready: bool,
    status: String,
    beat: u64,
}

/// The process answers; nothing more is asked.
pub(super) async fn alive(State(desk): State<Desk>) -> Json<Health> {
    Json(health(&desk))
}

/// 200 when it takes deliveries, else 503 with what it waits for.
pub(super) async fn ready(State(desk): State<Desk>) -> (StatusCode, Json<Health>) {
    let health = health(&desk);
    (if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

fn health(desk: &Desk) -> Health {
    let pulse = desk.engine.pulse();
    let pulse = pulse.borrow();
    Health { ready: pulse.ready, status: pulse.status.clone(), beat: pulse.beat }
}
