//! Reading an answer's body, never more of it than we need to judge it.

use hyper::body::{Body, Incoming};

use super::connection::Connection;

/// Why a body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is longer than we read.
    TooLong,
    /// The connection broke in the middle.
    Reset,
    /// It took too long.
    Late,
}

/// Reads at most `limit` bytes.
///
/// # Errors
/// When there are more, or the connection breaks before the end.
pub(super) async fn read(connection: &mut Connection, mut body: Incoming, limit: usize) -> Result<Vec<u8>, Broken> {
    let promised = usize::try_from(body.size_hint().lower()).ok().filter(|&n| n <= limit).ok_or(Broken::TooLong)?;
    let mut read = Vec::with_capacity(promised);
    while let Some(piece) = connection.piece(&mut body).await {
        let piece = piece.map_err(|_| Broken::Reset)?;
        if read.len() + piece.len() > limit {
            return Err(Broken::TooLong);
        }
        read.extend_from_slice(&piece);
    }
    Ok(read)
}
