//! What is to happen in a world, drawn from its seed.

use campaignd::dice::Dice;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Requests in any second and in any minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) second: u32,
    pub(crate) minute: u32,
}

/// How often the broker fails, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BrokerFaults {
    pub(crate) lost_ack: f64,
    pub(crate) publish_lost: f64,
    pub(crate) publish_unconfirmed: f64,
    /// It arrives after its publisher has given up waiting for the confirm.
    pub(crate) publish_late: f64,
    pub(crate) copy: f64,
    pub(crate) reorder: f64,
    pub(crate) down: f64,
    pub(crate) slow_ms: u64,
}

/// How often the gateway fails, each from 0 to 1, and how long a way takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatewayFaults {
    pub(crate) refused: f64,
    pub(crate) transient: f64,
    pub(crate) stopping: f64,
    pub(crate) unreachable: f64,
    pub(crate) reset: f64,
    pub(crate) hang: f64,
    pub(crate) odd: f64,
    pub(crate) latency_ms: (u64, u64),
    pub(crate) balance: u64,
}

impl GatewayFaults {
    pub(crate) const CALM: Self = Self {
        refused: 0.0,
        transient: 0.0,
        stopping: 0.0,
        unreachable: 0.0,
        reset: 0.0,
        hang: 0.0,
        odd: 0.0,
        latency_ms: (5, 30),
        balance: u64::MAX,
    };
}

/// How often the disk fails, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DiskFaults {
    pub(crate) failing: f64,
    pub(crate) unreadable: f64,
    pub(crate) slow_ms: u64,
}

/// One account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountPlan {
    /// As the gateway counts.
    pub(crate) limit: Limit,
    pub(crate) max_in_flight: usize,
}

/// One campaign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CampaignPlan {
    pub(crate) account: usize,
    pub(crate) jobs: u64,
    pub(crate) resend: bool,
    pub(crate) sandbox: bool,
    /// Jobs come before anybody has announced the campaign.
    pub(crate) unannounced: bool,
    /// Some of its jobs come again in a second batch, and a few bodies are no jobs.
    pub(crate) untidy: bool,
}

/// What is to happen.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) accounts: Vec<AccountPlan>,
    pub(crate) campaigns: Vec<CampaignPlan>,
    pub(crate) lives: u32,
    /// Longest life but for the last, in milliseconds.
    pub(crate) life_ms: u64,
    pub(crate) broker: BrokerFaults,
    pub(crate) gateway: GatewayFaults,
    pub(crate) disk: DiskFaults,
    /// The disk is lost between two lives now and then. In such a world copies say that they are: one that does not and was never
    /// delivered cannot be told from a job.
    pub(crate) loses_disk: bool,
    pub(crate) meddle: bool,
    /// Dead letters held by one subscription.
    pub(crate) shelf_page: u16,
}

const LIMITS: [Limit; 5] = [
    Limit { second: 50, minute: 3000 },
    Limit { second: 20, minute: 600 },
    Limit { second: 80, minute: 1000 },
    Limit { second: 10, minute: 500 },
    Limit { second: 5, minute: 40 },
];

impl Plan {
    /// Nothing goes wrong.
    pub(crate) fn calm(seed: u64) -> Self {
        let account = |n: usize| AccountPlan { limit: LIMITS[n], max_in_flight: 16 };
        let campaign =
            |account| CampaignPlan { account, jobs: 200, resend: false, sandbox: false, unannounced: false, untidy: false };
        Self {
            seed,
            accounts: vec![account(0), account(1)],
            campaigns: vec![campaign(0), campaign(0), campaign(1)],
            lives: 1,
            life_ms: 1,
            broker: BrokerFaults { slow_ms: 1, ..BrokerFaults::default() },
            gateway: GatewayFaults::CALM,
            disk: DiskFaults { slow_ms: 4, ..DiskFaults::default() },
            loses_disk: false,
            meddle: false,
            shelf_page: 64,
        }
    }

    /// Everything goes wrong now and then, each as often as the seed says and some of it not at all.
    pub(crate) fn disaster(seed: u64) -> Self {
        let mut dice = Dice::seed_from_u64(seed ^ 0x5eed);
        let loses_disk = dice.random_bool(0.2);
        let accounts: Vec<AccountPlan> = (0..dice.random_range(1..=3)).map(|_| AccountPlan::draw(&mut dice)).collect();
        let count = dice.random_range(1..=4);
        let large = dice.random_bool(0.1);
        let campaigns = (0..count).map(|_| CampaignPlan::draw(&mut dice, accounts.len(), large, loses_disk)).collect();
        Self {
            seed,
            accounts,
            campaigns,
            lives: dice.random_range(1..7),
            life_ms: *[300, 3_000, 15_000].choose(&mut dice).unwrap(),
            broker: BrokerFaults::draw(&mut dice),
            gateway: GatewayFaults::draw(&mut dice),
            disk: DiskFaults::draw(&mut dice),
            loses_disk,
            meddle: true,
            shelf_page: dice.random_range(1..16),
        }
    }
}

/// A chance up to `most`; in a third of the worlds it never happens.
fn chance(dice: &mut Dice, most: f64) -> f64 {
    let drawn = dice.random_range(0.0..most);
    if dice.random_bool(1.0 / 3.0) { 0.0 } else { drawn }
}

impl AccountPlan {
    fn draw(dice: &mut Dice) -> Self {
        Self { limit: *LIMITS.choose(dice).unwrap(), max_in_flight: *[1, 4, 16, 64].choose(dice).unwrap() }
    }
}

impl CampaignPlan {
    fn draw(dice: &mut Dice, accounts: usize, large: bool, loses_disk: bool) -> Self {
        let most = if large { 200 } else { 30 };
        Self {
            account: dice.random_range(0..accounts),
            jobs: dice.random_range(1..most),
            resend: dice.random_bool(0.3),
            sandbox: dice.random_bool(0.05),
            unannounced: dice.random_bool(0.2),
            untidy: !loses_disk && dice.random_bool(0.3),
        }
    }
}

impl BrokerFaults {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            lost_ack: chance(dice, 0.05),
            publish_lost: chance(dice, 0.1),
            publish_unconfirmed: chance(dice, 0.1),
            publish_late: chance(dice, 0.05),
            copy: chance(dice, 0.05),
            reorder: chance(dice, 0.2),
            down: chance(dice, 0.2),
            slow_ms: dice.random_range(1..50),
        }
    }
}

impl GatewayFaults {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            refused: chance(dice, 0.05),
            transient: chance(dice, 0.05),
            stopping: chance(dice, 0.03),
            unreachable: chance(dice, 0.02),
            reset: chance(dice, 0.03),
            hang: chance(dice, 0.01),
            odd: chance(dice, 0.03),
            latency_ms: (1, dice.random_range(2..400)),
            balance: dice.random_range(5..200),
        }
    }
}

impl DiskFaults {
    fn draw(dice: &mut Dice) -> Self {
        Self { failing: chance(dice, 0.1), unreadable: chance(dice, 0.01), slow_ms: dice.random_range(1..20) }
    }
}
