//! How the admin API says no: a status, what happened, and what to do.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::broker::BrokerError;
use crate::campaign::PauseTarget;
use crate::engine::CommandError;

/// Body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened. Never holds a recipient.
    pub error: String,
    /// What to do about it; may be empty.
    pub what_to_do: String,
}

/// A no.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) Problem);

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl ToString, what_to_do: impl Into<String>) -> Self {
        Self(status, Problem { error: error.to_string(), what_to_do: what_to_do.into() })
    }

    pub(super) fn bad(error: impl ToString, what_to_do: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, what_to_do)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        let (status, what_to_do) = match &error {
            CommandError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "wait until the daemon has started again"),
            CommandError::NotFound(PauseTarget::Campaign(_)) => {
                (StatusCode::NOT_FOUND, "`campaignd campaign list` shows every campaign")
            }
            CommandError::NotFound(PauseTarget::Account(_)) => {
                (StatusCode::NOT_FOUND, "`campaignd account list` shows every account")
            }
            CommandError::Conflict(_) => (StatusCode::CONFLICT, ""),
            CommandError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "try again; the daemon's log says more"),
        };
        Self::new(status, error, what_to_do)
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        let what_to_do = match error {
            BrokerError::Denied(_) => "a person has to mend permissions or arguments at the broker",
            _ => "repeat the same request: nothing is sent twice",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, what_to_do)
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Refusal {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), reason(&rejection.body_text()), "")
            }
        }
    )*};
}

from_rejection!(BytesRejection, JsonRejection, PathRejection, QueryRejection);

/// axum's words up to where serde may quote a value.
fn reason(text: &str) -> String {
    text.split(['"', '`']).next().unwrap_or_default().trim_end().to_owned()
}

pub(super) async fn no_such_page() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "there is no such page",
        "campaignd's own commands use everything the admin API has: see `campaignd --help`",
    )
}

pub(super) async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this page does not take this method", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_from_rejections() {
        let text = "Failed to deserialize query string: code: invalid type: string \"905321234567\", expected u32";
        assert_eq!(reason(text), "Failed to deserialize query string: code: invalid type: string");
    }
}
