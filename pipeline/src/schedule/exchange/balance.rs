//! Beyond the paper: as even as half chunks permit, in every step.

use super::{Move, Part, loads};

/// What a rank has above the common level, or below it.
#[derive(Clone, Copy)]
struct Account {
    rank: u32,
    /// Half chunks.
    amount: u32,
}

/// Moves that bring every rank down to the mean load, rounded up: as low as the heaviest can be.
/// Only what lies above is moved, and in few pieces, for each costs queries one way and an output
/// the other: the largest surplus goes where it fits exactly, else where most room is.
pub(super) fn moves(prefixes: &[Option<u32>]) -> Vec<Move> {
    let loads = loads(prefixes, &[]);
    let level = loads.iter().sum::<u32>().div_ceil(loads.len().max(1) as u32);
    let accounts = |amount: fn(u32, u32) -> u32| -> Vec<Account> {
        let account = |(&load, rank)| Account { rank, amount: amount(load, level) };
        loads.iter().zip(0..).map(account).filter(|account| account.amount > 0).collect()
    };
    let mut over = accounts(|load, level| load.saturating_sub(level));
    let mut room = accounts(|load, level| level.saturating_sub(load));
    // Stable sorts: equal amounts stay in the order of ranks.
    over.sort_by_key(|account| std::cmp::Reverse(account.amount));
    let mut moves = Vec::new();
    for Account { rank: owner, amount } in over {
        let (mut start, mut left) = (0, amount);
        while left > 0 {
            let exact = room.iter().position(|helper| helper.amount == left);
            let largest =
                || (0..room.len()).max_by_key(|&i| (room[i].amount, std::cmp::Reverse(i)));
            // The level is at least the mean, so there is room as long as something is left.
            let Some(at) = exact.or_else(largest) else { break };
            let helper = &mut room[at];
            let len = left.min(helper.amount);
            let part = Part { start, end: start + len };
            moves.push(Move { owner, helper: helper.rank, part });
            (start, left) = (part.end, left - len);
            helper.amount -= len;
            if helper.amount == 0 {
                room.remove(at);
            }
        }
    }
    moves.sort_unstable();
    moves
}
