//! Who sends to whom.

use super::Lane;

/// A queue of messages from one rank of a group to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Who sends.
    pub from: u32,
    /// Who receives.
    pub to: u32,
    /// What.
    pub lane: Lane,
}

/// Divides `routes` into rounds in which no rank has two: in each, all can be opened at once. All ranks
/// that do this with the same routes, in whatever order, get the same.
pub(super) fn rounds(mut routes: Vec<Route>) -> Vec<Vec<Route>> {
    routes.sort_unstable();
    routes.dedup();
    let mut rounds: Vec<Vec<Route>> = Vec::new();
    for route in routes {
        let ends = [route.from, route.to];
        let meets = |other: &Route| ends.contains(&other.from) || ends.contains(&other.to);
        match rounds.iter_mut().find(|round| !round.iter().any(meets)) {
            Some(round) => round.push(route),
            None => rounds.push(vec![route]),
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_activations_and_gradients_opens_in_few_rounds_and_no_rank_is_in_one_twice() {
        for size in 2..9u32 {
            let both = |rank: u32| {
                let next = (rank + 1) % size;
                [
                    Route { from: rank, to: next, lane: Lane::Activations },
                    Route { from: next, to: rank, lane: Lane::Gradients },
                ]
            };
            let routes: Vec<Route> = (0..size).flat_map(both).collect();
            let rounds = rounds(routes.iter().rev().copied().collect());
            let mut all = rounds.concat();
            all.sort_unstable();
            let mut expected = routes;
            expected.sort_unstable();
            assert_eq!(all, expected);
            assert!(rounds.len() <= 7, "{size}: {}", rounds.len());
            for round in rounds {
                let mut ranks: Vec<u32> = round.iter().flat_map(|r| [r.from, r.to]).collect();
                ranks.sort_unstable();
                assert!(ranks.windows(2).all(|pair| pair[0] != pair[1]), "{round:?}");
            }
        }
    }
}
