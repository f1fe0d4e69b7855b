//! The admin API: JSON over HTTP on loopback. Reads what the engine shows of itself, and hands it commands.
//!
//! There is no login: whoever can reach loopback on this machine may operate the daemon. What a web page in a browser on this machine
//! could do is kept out by `guard`.

mod accounts;
mod campaigns;
mod dead;
mod guard;
mod health;
mod jobs;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod refusal;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use tokio::net::TcpListener;

pub(crate) use dead::Groups;
pub use refusal::Problem;
pub use wire::{DeadGroup, DeadQuery, PauseOrder, Published, Requeued};

use crate::broker::Broker;
use crate::engine::Handle;

/// Largest body of a command.
const MAX_COMMAND_BYTES: usize = 256 * 1024;

/// Largest batch of jobs: a hundred of the largest, some thousands of the usual size.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Longest time for one request, its body included. Looking through many dead letters takes the longest.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);

/// What every handler may use.
#[derive(Clone)]
struct Desk {
    engine: Handle,
    broker: Arc<dyn Broker>,
}

/// Serves the admin API until `shutdown` resolves; requests under way are finished.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    engine: Handle,
    broker: Arc<dyn Broker>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(Desk { engine, broker })).with_graceful_shutdown(shutdown).await
}

fn router(desk: Desk) -> Router {
    let campaign = Router::new()
        .route("/", get(campaigns::show))
        .route("/pause", post(campaigns::pause))
        .route("/resume", post(campaigns::resume))
        .route("/cancel", post(campaigns::cancel))
        .route("/dead", get(dead::list))
        .route("/dead/groups", get(dead::groups))
        .route("/dead/requeue", post(dead::requeue))
        .route("/jobs", post(jobs::publish).layer(DefaultBodyLimit::max(MAX_BATCH_BYTES)));
    let account = Router::new()
        .route("/", get(accounts::show))
        .route("/pause", post(accounts::pause))
        .route("/resume", post(accounts::resume));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/v1/campaigns", get(campaigns::list))
        .nest("/v1/campaigns/{id}", campaign)
        .route("/v1/accounts", get(accounts::list))
        .nest("/v1/accounts/{name}", account)
        .route("/v1/announce", post(jobs::announce))
        .fallback(refusal::no_such_page)
        .method_not_allowed_fallback(refusal::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_COMMAND_BYTES))
        .layer(from_fn(guard::time_limit))
        .layer(from_fn(guard::only_local_programs))
        .with_state(desk)
}
