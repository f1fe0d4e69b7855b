//! What lapin and RabbitMQ report, in our own errors. The one place that reads AMQP reply codes.

use lapin::{Error, ErrorKind};

use crate::broker::BrokerError;

/// RabbitMQ's words for a queue that exists but is not ready again after a restart.
const NOT_READY: &str = "down or inaccessible";

/// The AMQP reply code, if the broker sent one.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => Some(amqp.get_id()),
        _ => None,
    }
}

/// The queue or exchange does not exist (404). A queue whose node is still starting answers 404 too and is not meant.
pub(super) fn is_missing(error: &Error) -> bool {
    reply_code(error) == Some(404) && !error.to_string().contains(NOT_READY)
}

/// The broker could not find the queue's leading process (541).
pub(super) fn has_no_leader(error: &Error) -> bool {
    reply_code(error) == Some(541)
}

/// What a failed call on an open connection means, `doing` telling what was attempted.
pub(super) fn call(doing: &str, error: &Error) -> BrokerError {
    let text = format!("{doing}: {error}");
    match reply_code(error) {
        Some(403 | 406 | 530 | 540) => BrokerError::Denied(text),
        _ => BrokerError::Down(text),
    }
}
