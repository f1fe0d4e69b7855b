//! Any account on any way: limits, pace, reserve, ways, disk, clock and naps are what the seed decides.

use campaignd::dice::Dice;
use campaignd::pacer::{Limits, Pace, Plan, Reserve};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::case::{Case, Nap, Way};
use crate::sum::Sum;
use crate::world::MS;

/// Long enough for two minutes' windows.
const SECONDS: u64 = 150;

fn any(seed: u64) -> Case {
    let mut dice = Dice::seed_from_u64(seed);
    let second = *[1, 2, 5, 10, 20, 50, 80, 100, 150].choose(&mut dice).unwrap();
    let minute = [None, Some(second * 60), Some(second * 30), Some(second * 10)].choose(&mut dice).copied().flatten();
    let limits = Limits { second: Some(second), minute };
    let reserve = Reserve::Share(*[0.0, 0.1, 0.25].choose(&mut dice).unwrap());
    let pace = if dice.random_bool(0.3) { Pace::Burst } else { Pace::Smooth };
    let way = any_way(&mut dice);
    let nap = Nap { times: 2.0, length: dice.random_range(100..3000) * MS, clock_too: dice.random_bool(0.3) };
    Case {
        seconds: SECONDS,
        plan: Plan { limits, reserve, pace },
        limits: vec![(0, limits)],
        up: way,
        down: if dice.random_bool(0.5) { way } else { any_way(&mut dice) },
        disk: (MS / 2, dice.random_range(1..20) * MS),
        nap: dice.random_bool(0.3).then_some(nap),
        drift: dice.random_range(-0.0004..0.0004),
        restarts: if dice.random_bool(0.2) { vec![dice.random_range(10..80)] } else { Vec::new() },
        ..Case::default()
    }
}

fn any_way(dice: &mut Dice) -> Way {
    let least = [1, 5, 10, 25, 100, 400].choose(dice).map_or(MS, |least| least * MS);
    match dice.random_range(0..3) {
        0 => Way::Uniform(least, least + dice.random_range(0..100) * MS),
        1 => Way::Lognormal(least, dice.random_range(1_000.0..20_000.0), dice.random_range(0.2..1.2)),
        _ => Way::Tail(least, least + dice.random_range(0..30) * MS, 0.02, least + dice.random_range(50..400) * MS),
    }
}

/// Of what the limits allow and the reserve leaves, on average over a minute.
fn share(case: &Case, let_through: f64) -> f64 {
    let Reserve::Share(reserved) = case.plan.reserve else { return 0.0 };
    let second = case.plan.limits.second.map_or(f64::INFINITY, f64::from);
    let allowed = second.min(case.plan.limits.minute.map_or(f64::INFINITY, |minute| f64::from(minute) / 60.0));
    let_through / (allowed * (1.0 - reserved))
}

#[test]
fn any_account_uses_its_limits_on_any_way_and_is_not_refused() {
    let sum = Sum::by_seed("of what is open to any account", any, |case, report| share(case, report.rate(30, SECONDS)));
    // What a restart cannot know of the minute before, and the first minutes of an account of one a second.
    sum.at_least(0.9).at_most(1.05).refused_at_most(2.0);
}
