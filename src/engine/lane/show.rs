//! The lane's own picture of its account and campaigns.

use std::time::Duration;

use super::Lane;
use crate::engine::show::{account_pause, campaign_pause};
use crate::engine::view::{AccountView, CampaignState, CampaignView, WindowView};

impl Lane {
    pub(super) fn campaign_views(&mut self) -> Vec<CampaignView> {
        let now = self.clock.now();
        let open = self.is_open();
        let account = self.account_pause().map(|pause| account_pause(&self.account, pause));
        let running = self.rolls.values().filter(|roll| roll.state(open) == CampaignState::Running).count().max(1);
        let share = self.pacer.rate().map(|rate| rate / running as f64);
        let views = self.rolls.values_mut().map(|roll| {
            let counts = &roll.campaign.counts;
            let rate = roll.meter.per_second(now);
            let state = roll.state(open);
            let speed = if rate > 0.0 { Some(rate) } else { share };
            let left = speed.filter(|_| state == CampaignState::Running).map(|speed| counts.open() as f64 / speed);
            CampaignView {
                id: roll.campaign.id.clone(),
                account: roll.campaign.account.clone(),
                announced_account: roll.campaign.announced_account.clone(),
                state,
                options: roll.campaign.options,
                enqueued: counts.enqueued(),
                waiting: counts.waiting(),
                in_flight: counts.in_flight,
                delayed: counts.delayed,
                sent: counts.sent,
                dead: counts.dead,
                cancelled: counts.cancelled,
                expired: counts.expired,
                duplicates: counts.duplicates,
                sealed: counts.is_sealed(),
                rate_per_second: rate,
                left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                pause: roll.gate.pause().map(|pause| campaign_pause(&roll.campaign.id, pause)),
                account_pause: account.clone().filter(|_| state == CampaignState::Paused),
                created: roll.campaign.created,
                ended: roll.campaign.ended,
                counts_since: roll.campaign.counts_since,
                ledger_gone: roll.campaign.ledger_gone,
            }
        });
        views.collect()
    }

    pub(super) fn account_view(&mut self) -> AccountView {
        let now = self.clock.now();
        let limits = self.pacer.limits();
        let (second, minute) = self.pacer.used(now);
        let others = self.pacer.left_to_others();
        let window = |limit: Option<u32>, used, others: Option<u32>| {
            limit.map(|limit| WindowView { limit, used, others: others.unwrap_or(0) })
        };
        let open = self.rolls.values().filter(|roll| roll.campaign.ended.is_none()).count();
        AccountView {
            name: self.account.clone(),
            configured: self.gateway.is_ok(),
            pause: self.account_pause().map(|pause| account_pause(&self.account, pause)),
            campaigns: open as u64,
            in_flight: self.sending as u64,
            most_in_flight: self.pacer.most_in_flight(self.max_in_flight) as u64,
            max_in_flight: self.max_in_flight as u64,
            second: window(limits.second, second, others.second),
            minute: window(limits.minute, minute, others.minute),
            rate_per_second: self.meter.per_second(now),
            held_for: self.pacer.held_for(now),
            probing: self.gate.is_probing(),
        }
    }
}
