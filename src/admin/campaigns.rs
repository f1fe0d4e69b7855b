//! Campaigns: list, show, pause, resume, cancel.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Desk;
use super::refusal::Refusal;
use super::wire::PauseOrder;
use crate::campaign::PauseTarget;
use crate::engine::{CampaignView, Resumed};
use crate::job::CampaignId;

/// What a pause says of itself when the operator gives no reason.
const BY_OPERATOR: &str = "paused by the operator";

/// Longest cause kept, in characters.
const MAX_CAUSE_CHARS: usize = 500;

pub(super) type Id = Result<Path<CampaignId>, PathRejection>;
pub(super) type Body = Result<Bytes, BytesRejection>;

pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<Vec<CampaignView>>, Refusal> {
    Ok(Json(desk.engine.campaigns().await?))
}

pub(super) async fn show(State(desk): State<Desk>, id: Id) -> Result<Json<CampaignView>, Refusal> {
    Ok(Json(desk.engine.campaign(&id?.0).await?))
}

pub(super) async fn pause(State(desk): State<Desk>, id: Id, body: Body) -> Result<StatusCode, Refusal> {
    pause_target(&desk, PauseTarget::Campaign(id?.0), body).await
}

pub(super) async fn resume(State(desk): State<Desk>, id: Id) -> Result<Json<Resumed>, Refusal> {
    Ok(Json(desk.engine.resume(PauseTarget::Campaign(id?.0)).await?))
}

pub(super) async fn cancel(State(desk): State<Desk>, id: Id) -> Result<StatusCode, Refusal> {
    desk.engine.cancel(id?.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pause_target(desk: &Desk, target: PauseTarget, body: Body) -> Result<StatusCode, Refusal> {
    let order: PauseOrder = json_or_default(body)?;
    let cause = order.cause.unwrap_or_else(|| BY_OPERATOR.to_owned()).chars().take(MAX_CAUSE_CHARS).collect();
    desk.engine.pause(target, cause, order.seconds.map(Duration::from_secs)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An empty body is an empty object.
pub(super) fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, Refusal> {
    let body = body?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let wrong = |error: serde_json::Error| {
        let place = format!("the body is not what this command takes (line {}, column {})", error.line(), error.column());
        Refusal::bad(place, "`campaignd campaign --help` lists the commands")
    };
    serde_json::from_slice(&body).map_err(wrong)
}
