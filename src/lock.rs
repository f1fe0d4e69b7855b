//! Taking a lock that a panic elsewhere has not spoilt: what is behind these is whole between any two statements.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the mutex and takes it, poisoned or not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
