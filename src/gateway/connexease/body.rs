//! Reading an answer's body, never more of it than we need to judge it.

use super::trouble;

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
pub(super) async fn read(response: &mut reqwest::Response, limit: usize) -> Result<Vec<u8>, Broken> {
    let promised = response.content_length().unwrap_or(0);
    let promised = usize::try_from(promised).ok().filter(|&n| n <= limit).ok_or(Broken::TooLong)?;
    let mut body = Vec::with_capacity(promised);
    while let Some(chunk) = response.chunk().await.map_err(|error| trouble::broken_body(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(Broken::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
