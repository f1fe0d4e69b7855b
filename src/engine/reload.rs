//! What an engine may be given anew while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Account, Settings};
use crate::job::AccountName;
use crate::policy::Rules;

/// Accounts, rules and settings for a running engine. Nothing is interrupted by them: requests under way finish as they began, and what
/// left before still counts against the limits, unless another window is limited: that is as at a start.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The accounts that stand in the configuration now. The campaigns of one that no longer does wait.
    pub accounts: BTreeMap<AccountName, Account>,
    /// The error policy; what it has counted so far stays.
    pub rules: Arc<Rules>,
    /// The rest. The prefetch holds for subscriptions from now on.
    pub settings: Settings,
}
