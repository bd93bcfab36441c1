//! The routes of a schedule's messages: every rank names all of them, its own and the others'.

use crate::comm::{Lane, Route};
use crate::schedule::{Action, Schedule};

/// Those between neighbouring stages.
pub(super) fn of_stages(schedule: &Schedule) -> Vec<Route> {
    let placement = schedule.placement();
    let neighbours = (1..placement.stages()).map(|stage| {
        let [from, to] = [stage - 1, stage].map(|stage| placement.locate(stage).0);
        [
            Route { from, to, lane: Lane::Activations },
            Route { from: to, to: from, lane: Lane::Gradients },
        ]
    });
    neighbours.flatten().filter(|route| route.from != route.to).collect()
}

/// Those of attention that is shared.
pub(super) fn of_attention(schedule: &Schedule) -> Vec<Route> {
    let mut routes = Vec::new();
    for from in 0..schedule.ranks() {
        for action in schedule.program(from) {
            let Action::Ship { to, .. } = action else { continue };
            routes.extend([
                Route { from, to, lane: Lane::Keys },
                Route { from, to, lane: Lane::Queries },
                Route { from: to, to: from, lane: Lane::Partials },
            ]);
        }
    }
    routes.sort_unstable();
    routes.dedup();
    routes
}

/// Those of rows of a vocabulary that `ranks` ranks share, to and from the rank of the first stage.
pub(super) fn of_vocabulary(ranks: u32, first: u32) -> Vec<Route> {
    let both = |other| {
        [
            Route { from: other, to: first, lane: Lane::Activations },
            Route { from: first, to: other, lane: Lane::Gradients },
        ]
    };
    (0..ranks).filter(|other| *other != first).flat_map(both).collect()
}
