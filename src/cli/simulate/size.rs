//! How much can be simulated.

use anyhow::bail;
use slimpipe::pipeline::schedule::Schedule;

/// Actions of all ranks that are verified and simulated in a minute or two.
const MOST_ACTIONS: u64 = 1_000_000_000;

/// What a unit comes to on a rank: forward, backward and four messages.
const ACTIONS_OF_A_UNIT: u64 = 6;

/// Refuses what would be simulated for longer than anybody waits.
pub fn check(schedule: &Schedule) -> anyhow::Result<()> {
    let (p, n) = (schedule.ranks(), schedule.slices());
    let (m, v) = (schedule.microbatches(), schedule.chunks());
    let of_a_rank = schedule.units().checked_mul(ACTIONS_OF_A_UNIT);
    let actions = of_a_rank.and_then(|actions| actions.checked_mul(p.into()));
    if actions.is_none_or(|actions| actions > MOST_ACTIONS) {
        bail!(
            "-p {p} -n {n} -m {m} -v {v} are about {:.1e} actions, and at most {:.0e} are simulated: lower one of them; a step of fewer microbatches shows the same",
            actions.map_or(f64::INFINITY, |actions| actions as f64),
            MOST_ACTIONS as f64
        );
    }
    Ok(())
}
