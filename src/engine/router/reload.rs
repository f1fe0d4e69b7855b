//! Other accounts, rules and settings: every lane is told, and new accounts get one.

use std::sync::Arc;

use super::Router;
use crate::engine::Reload;
use crate::engine::lane::{LaneCommand, LaneReload};

impl Router {
    pub(super) async fn reload(&mut self, reload: Reload) {
        self.ask_all(|name, answer| {
            let account = reload.accounts.get(name).cloned();
            let (rules, settings) = (Arc::clone(&reload.rules), reload.settings.clone());
            LaneCommand::Reload(Box::new(LaneReload { account, rules, settings }), answer)
        })
        .await;
        let Reload { accounts, rules, settings } = reload;
        (self.parts.accounts, self.parts.rules, self.parts.settings) = (accounts, rules, settings);
        for name in self.configured() {
            if self.ensure_lane(&name) {
                tracing::info!(account = %name, "a new account");
            }
        }
    }
}
