//! The sender's own machine: it is started anew, stands still, is suspended, has a slow disk, and its clock runs fast or slow.
//!
//! The wall clock is not among them: the pacer is told monotonic time only. That its steps change nothing is shown where the whole
//! engine runs, in `tests/sim`.

use crate::case::{Case, Nap};
use crate::sum::Sum;
use crate::world::MS;

#[test]
fn a_restart_neither_bursts_nor_stalls() {
    let case = Case { restarts: vec![20, 40], ..Case::default() };
    Sum::settled("restarts", &case).at_least(0.99 * 80.0 / 1.02).refused_at_most(2.0);
}

#[test]
fn a_machine_that_stands_still_or_is_suspended_does_not_send_what_it_missed() {
    for clock_too in [false, true] {
        for (length, least) in [(300 * MS, 0.93), (4000 * MS, 0.75)] {
            let case = Case { nap: Some(Nap { times: 3.0, length, clock_too }), ..Case::default() };
            let name = format!("naps of up to {} ms, the clock too: {clock_too}", length / MS);
            Sum::settled(&name, &case).at_least(least * 80.0).refused_at_most(1.0);
        }
    }
}

#[test]
fn a_clock_that_runs_fast_or_slow_costs_nothing() {
    for drift in [-0.0004, 0.0004] {
        let case = Case { drift, ..Case::default() };
        Sum::settled(&format!("clock off by {drift}"), &case).at_least(0.99 * 80.0 / 1.02).refused_at_most(1.0);
    }
}

#[test]
fn a_slow_disk_costs_little_and_bunches_nothing() {
    let case = Case { disk: (5 * MS, 25 * MS), ..Case::default() };
    Sum::settled("writing takes up to 25 ms", &case).at_least(0.98 * 80.0 / 1.02).refused_at_most(1.0);
    let case = Case { disk: (5 * MS, 200 * MS), ..Case::default() };
    Sum::settled("writing takes up to 200 ms", &case).at_least(0.75 * 80.0).refused_at_most(1.0);
}
