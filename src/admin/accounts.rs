//! Accounts: list, show, pause, resume.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Desk;
use super::campaigns::{Body, pause_target};
use super::refusal::Refusal;
use crate::campaign::PauseTarget;
use crate::engine::{AccountView, CommandError, Resumed};
use crate::job::AccountName;

type Name = Result<Path<AccountName>, PathRejection>;

pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<Vec<AccountView>>, Refusal> {
    Ok(Json(desk.engine.accounts().await?))
}

pub(super) async fn show(State(desk): State<Desk>, name: Name) -> Result<Json<AccountView>, Refusal> {
    let Path(name) = name?;
    let found = desk.engine.accounts().await?.into_iter().find(|view| view.name == name);
    found.map(Json).ok_or_else(|| CommandError::NotFound(PauseTarget::Account(name)).into())
}

pub(super) async fn pause(State(desk): State<Desk>, name: Name, body: Body) -> Result<StatusCode, Refusal> {
    pause_target(&desk, PauseTarget::Account(name?.0), body).await
}

pub(super) async fn resume(State(desk): State<Desk>, name: Name) -> Result<Json<Resumed>, Refusal> {
    Ok(Json(desk.engine.resume(PauseTarget::Account(name?.0)).await?))
}
