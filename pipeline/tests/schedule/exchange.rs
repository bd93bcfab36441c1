//! Attention exchange: loads, volumes and bubbles of programs, against the paper's rules and figures.

use std::collections::HashMap;

use proptest::prelude::*;
use slimpipe_pipeline::schedule::exchange::{Move, loads};
use slimpipe_pipeline::schedule::{
    Action, Exchange, Pass, Schedule, ScheduleError, ScheduleKind, Unit, dump, parse, verify,
    verify_programs,
};

use slimpipe_pipeline::simulate::{Costs, Growing, simulate};

use crate::sample::{exchanging, schedule};

const PASSES: [Pass; 2] = [Pass::Forward, Pass::Backward];

/// What ranks attend to at every step, read off their programs.
struct Steps {
    ranks: u32,
    step_of: HashMap<(Pass, u32, Unit), usize>,
    /// By pass, step and rank.
    prefixes: [Vec<Vec<Option<u32>>>; 2],
    moves: [Vec<Vec<Move>>; 2],
}

impl Steps {
    fn of(schedule: &Schedule) -> Self {
        let clock = schedule.lock_step().unwrap();
        let (ranks, steps) = (schedule.ranks(), clock.steps() as usize);
        let mut prefixes = PASSES.map(|_| vec![vec![None; ranks as usize]; steps]);
        let mut moves = PASSES.map(|_| vec![Vec::new(); steps]);
        let mut step_of = HashMap::new();
        for rank in 0..ranks {
            let mut done = [0u64; 2];
            for action in schedule.order(rank) {
                let (pass, unit) = match action {
                    Action::Forward(unit) => (Pass::Forward, unit),
                    Action::Backward(unit) => (Pass::Backward, unit),
                    _ => unreachable!("slimpipe runs whole forwards and backwards"),
                };
                let step = clock.step_of(pass, rank, done[pass as usize]);
                done[pass as usize] += 1;
                prefixes[pass as usize][step as usize][rank as usize] = Some(unit.slice);
                step_of.insert((pass, rank, unit), step as usize);
            }
        }
        let mut attended = HashMap::new();
        for rank in 0..ranks {
            for action in schedule.program(rank) {
                if let Action::Attend { unit, part, from, pass } = action {
                    let step = step_of[&(pass, from, unit)];
                    attended.insert((pass, unit, part, from, rank), step);
                    moves[pass as usize][step].push(Move { owner: from, helper: rank, part });
                }
            }
        }
        for rank in 0..ranks {
            for action in schedule.program(rank) {
                if let Action::Ship { unit, part, to, pass } = action {
                    assert!(attended.remove(&(pass, unit, part, rank, to)).is_some(), "{action}");
                }
            }
        }
        assert!(attended.is_empty(), "some are attended to that nobody ships");
        Self { ranks, step_of, prefixes, moves }
    }

    /// Prefixes and moves of every step of a pass.
    fn each(&self, pass: Pass) -> impl Iterator<Item = (&[Option<u32>], &[Move])> {
        let steps = self.prefixes[pass as usize].iter().zip(&self.moves[pass as usize]);
        steps.map(|(prefixes, moves)| (&prefixes[..], &moves[..]))
    }

    /// Whether all ranks run consecutive slices.
    fn is_inside(prefixes: &[Option<u32>]) -> bool {
        prefixes.windows(2).all(|pair| match pair {
            [Some(a), Some(b)] => a.abs_diff(*b) == 1,
            _ => false,
        })
    }
}

fn is_full(prefixes: &[Option<u32>]) -> bool {
    prefixes.iter().all(Option::is_some)
}

/// Half chunks: the heaviest load, and p times the mean.
fn heaviest_and_sum(prefixes: &[Option<u32>], moves: &[Move]) -> (u32, u32) {
    let loads = loads(prefixes, moves);
    (loads.iter().copied().max().unwrap(), loads.iter().sum())
}

/// Sizes that exchange can run: p, n, m, v.
fn any_size() -> impl Strategy<Value = [u32; 4]> {
    (1u32..9, 0u32..17, 1u32..5, 1u32..4).prop_map(|(p, more, m, v)| [p, p + more, m, v])
}

fn of(exchange: Exchange, [p, n, m, v]: [u32; 4]) -> Steps {
    Steps::of(&exchanging(exchange, p, n, m, v))
}

proptest! {
    #[test]
    fn no_rank_ships_and_attends_at_once_and_parts_lie_in_their_prefix(
        size in any_size(), balanced in any::<bool>(),
    ) {
        let exchange = if balanced { Exchange::Balanced } else { Exchange::Paper };
        let steps = of(exchange, size);
        for (prefixes, moves) in PASSES.into_iter().flat_map(|pass| steps.each(pass)) {
            prop_assert!(balanced || is_full(prefixes) || moves.is_empty());
            for (i, a) in moves.iter().enumerate() {
                prop_assert!(!a.part.is_empty());
                prop_assert!(prefixes[a.owner as usize].is_some_and(|slices| a.part.end <= 2 * slices));
                prop_assert!(moves.iter().all(|b| a.owner != b.helper));
                let others = moves[..i].iter().filter(|b| b.owner == a.owner);
                prop_assert!(others.clone().all(|b| !b.part.overlaps(a.part) && b.helper != a.helper));
            }
        }
    }

    #[test]
    fn backward_exchanges_what_forward_does_step_by_step_in_reverse(
        size in any_size(), balanced in any::<bool>(),
    ) {
        let exchange = if balanced { Exchange::Balanced } else { Exchange::Paper };
        let steps = of(exchange, size);
        let sorted = |(prefixes, moves): (&[Option<u32>], &[Move])| {
            let mut moves = moves.to_vec();
            moves.sort();
            (prefixes.to_vec(), moves)
        };
        let forward: Vec<_> = steps.each(Pass::Forward).map(sorted).collect();
        let backward: Vec<_> = steps.each(Pass::Backward).map(sorted).collect();
        prop_assert!(forward.iter().eq(backward.iter().rev()));
    }

    #[test]
    fn paper_leaves_at_most_half_a_chunk_beyond_the_mean_inside_a_microbatch(size in any_size()) {
        let steps = of(Exchange::Paper, size);
        for (prefixes, moves) in PASSES.into_iter().flat_map(|pass| steps.each(pass)) {
            if Steps::is_inside(prefixes) {
                let (heaviest, sum) = heaviest_and_sum(prefixes, moves);
                prop_assert!(steps.ranks * heaviest <= sum + steps.ranks);
            }
        }
    }

    #[test]
    fn balanced_leaves_the_mean_rounded_up_to_half_a_chunk_at_every_step(size in any_size()) {
        let steps = of(Exchange::Balanced, size);
        for (prefixes, moves) in PASSES.into_iter().flat_map(|pass| steps.each(pass)) {
            let (heaviest, sum) = heaviest_and_sum(prefixes, moves);
            prop_assert_eq!(heaviest, sum.div_ceil(steps.ranks));
            if Steps::is_inside(prefixes) {
                prop_assert_eq!(steps.ranks * heaviest, sum);
            }
        }
    }

    #[test]
    fn balanced_is_never_heavier_than_paper(size in any_size()) {
        let (balanced, paper) = (of(Exchange::Balanced, size), of(Exchange::Paper, size));
        let steps = balanced.each(Pass::Forward).zip(paper.each(Pass::Forward));
        for ((prefixes, own), (_, other)) in steps {
            prop_assert!(heaviest_and_sum(prefixes, own).0 <= heaviest_and_sum(prefixes, other).0);
            if Steps::is_inside(prefixes) {
                prop_assert!(own.len() as u32 <= balanced.ranks / 2);
            }
        }
    }

    #[test]
    fn every_exchange_verifies_with_the_room_that_messages_need_without_it(
        size in any_size(), balanced in any::<bool>(),
    ) {
        let exchange = if balanced { Exchange::Balanced } else { Exchange::Paper };
        let [p, n, m, v] = size;
        let schedule = exchanging(exchange, p, n, m, v);
        let report = verify(&schedule, schedule.channel_capacity());
        prop_assert!(report.is_ok(), "{:?}", report);
    }
}

#[test]
fn with_slices_in_multiples_of_the_ranks_balanced_is_exactly_even_while_all_are_busy() {
    for size in [[2, 4, 2, 1], [4, 8, 3, 2], [8, 16, 2, 1], [8, 8, 2, 5], [3, 9, 2, 2]] {
        let steps = of(Exchange::Balanced, size);
        for (prefixes, moves) in steps.each(Pass::Forward).filter(|(prefixes, _)| is_full(prefixes))
        {
            let (heaviest, sum) = heaviest_and_sum(prefixes, moves);
            assert_eq!(steps.ranks * heaviest, sum, "{size:?}: {prefixes:?}");
        }
    }
}

/// Reference 3.1: p = 4, n = 8, m = 2; loads in chunks.
#[test]
fn the_papers_example_steps_come_out() {
    let steps = of(Exchange::Paper, [4, 8, 2, 1]);
    let step = |at| steps.each(Pass::Forward).nth(at).unwrap();
    let chunks = |(prefixes, moves): (&[Option<u32>], &[Move])| -> Vec<f64> {
        loads(prefixes, moves).into_iter().map(|load| f64::from(load) / 2.0).collect()
    };
    assert_eq!(step(5).0, [5, 4, 3, 2].map(Some));
    assert_eq!(chunks(step(5)), [4.5, 4.5, 3.5, 3.5]);
    assert_eq!(step(8).0, [0, 7, 6, 5].map(Some));
    assert_eq!(chunks(step(8)), [3.5, 4.5, 6.5, 5.5]);
    let balanced = of(Exchange::Balanced, [4, 8, 2, 1]);
    assert_eq!(chunks(balanced.each(Pass::Forward).nth(8).unwrap()), [5.0; 4]);
}

/// Chunks that all pairs together move per layer, on average over the steps with exchange.
fn mean_volume(size: [u32; 4]) -> f64 {
    let steps = of(Exchange::Paper, size);
    let full: Vec<&[Move]> = (steps.each(Pass::Forward))
        .filter_map(|(prefixes, moves)| is_full(prefixes).then_some(moves))
        .collect();
    let halves: u32 = full.iter().flat_map(|moves| moves.iter()).map(|m| m.part.len()).sum();
    f64::from(halves) / 2.0 / full.len() as f64
}

#[test]
fn the_papers_volumes_come_out() {
    for (size, expected) in [([4, 16, 4, 1], 2.2), ([8, 32, 16, 5], 7.1), ([16, 64, 16, 5], 32.5)] {
        assert!((mean_volume(size) - expected).abs() < 0.05, "{size:?}: {}", mean_volume(size));
    }
    // Inside a microbatch: p (p - 2) / 8.
    for (p, expected) in [(4, 1), (8, 6), (16, 28)] {
        let steps = of(Exchange::Paper, [p, 4 * p, 1, 1]);
        let (prefixes, moves) = steps.each(Pass::Forward).nth(2 * p as usize).unwrap();
        assert!(Steps::is_inside(prefixes));
        assert_eq!(moves.iter().map(|m| m.part.len()).sum::<u32>(), 2 * expected);
    }
}

/// Mean load over heaviest load, summed over forward steps.
fn evenness(exchange: Exchange, size: [u32; 4]) -> f64 {
    let steps = of(exchange, size);
    let of_step = |(prefixes, moves)| heaviest_and_sum(prefixes, moves);
    let (heaviest, sum) = (steps.each(Pass::Forward).map(of_step))
        .fold((0, 0), |(a, b), (heaviest, sum)| (a + heaviest, b + sum));
    f64::from(sum) / f64::from(steps.ranks * heaviest)
}

/// Reference 3.4, first table.
#[test]
fn the_papers_loads_come_out() {
    let table = [
        ([4, 8, 2, 1], 0.612, 0.731),
        ([4, 16, 4, 1], 0.748, 0.871),
        ([4, 16, 16, 5], 0.822, 0.931),
        ([8, 16, 4, 1], 0.587, 0.783),
        ([8, 32, 4, 1], 0.717, 0.872),
        ([8, 32, 16, 5], 0.799, 0.955),
        ([16, 64, 16, 5], 0.787, 0.967),
    ];
    for (size, off, paper) in table {
        for (exchange, expected) in [(Exchange::Off, off), (Exchange::Paper, paper)] {
            let found = evenness(exchange, size);
            assert!((found - expected).abs() < 6e-4, "{exchange} {size:?}: {found}");
        }
        assert!(evenness(Exchange::Balanced, size) > 0.98, "{size:?}");
    }
}

/// FLOPs of one layer of a Llama with slices of `slice` tokens; owners and helpers wait for each other
/// in each of `layers` layers, or never.
fn llama([width, kv_width, mlp]: [f64; 3], slice: f64, layers: Option<usize>) -> Growing {
    let projections = width * width + 2.0 * width * kv_width;
    let weights = projections + width * width + 3.0 * width * mlp;
    let (forward, attention) = (2.0 * slice * weights, 4.0 * slice * slice * width);
    let projections = projections / weights;
    Growing { forward, backward: 2.0 * forward, attention, layers, projections }
}

fn bubble_of(exchange: Exchange, [p, n, m, v]: [u32; 4], costs: &Growing) -> f64 {
    simulate(&exchanging(exchange, p, n, m, v), costs).unwrap().bubble()
}

/// Units that take as long as if loads were perfectly even whenever all ranks have a unit.
struct Even {
    costs: Growing,
    half_chunks: HashMap<(Pass, u32, Unit), f64>,
}

impl Costs for Even {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        let (pass, unit) = match action {
            Action::Forward(unit) => (Pass::Forward, unit),
            Action::Backward(unit) => (Pass::Backward, unit),
            _ => return 0.0,
        };
        // Linear in the half chunks: those of the first slice are one, a slice has two.
        let with = |slice| {
            let unit = Unit { slice, ..unit };
            self.costs.seconds(
                rank,
                if pass == Pass::Forward { Action::Forward(unit) } else { Action::Backward(unit) },
            )
        };
        let each = (with(1) - with(0)) / 2.0;
        with(0) + each * (self.half_chunks[&(pass, rank, unit)] - 1.0)
    }
}

/// The bubble if loads were perfectly even whenever all ranks have a unit.
fn perfect([p, n, m, v]: [u32; 4], costs: Growing) -> f64 {
    let schedule = schedule(ScheduleKind::SlimPipe, p, n, m, v);
    let steps = Steps::of(&schedule);
    let half_chunks = (steps.step_of.iter())
        .map(|(&(pass, rank, unit), &step)| {
            let prefixes = &steps.prefixes[pass as usize][step];
            let loads = loads(prefixes, &[]);
            let load = match is_full(prefixes) {
                true => f64::from(loads.iter().sum::<u32>()) / f64::from(p),
                false => f64::from(loads[rank as usize]),
            };
            ((pass, rank, unit), load)
        })
        .collect();
    simulate(&schedule, &Even { costs, half_chunks }).unwrap().bubble()
}

/// Reference 3.4, second table: percent without exchange, with the paper's, perfectly even ones, and
/// the paper's with waits.
#[test]
fn the_papers_bubbles_come_out_and_balanced_is_at_least_as_good_as_perfect_in_the_papers_windows() {
    let (llama_13b, llama_70b) = ([5120.0, 5120.0, 13824.0], [8192.0, 1024.0, 28672.0]);
    let kib = |k: u32| f64::from(k << 10);
    let cases = [
        ([8, 16, 4, 5], llama_13b, kib(256) / 16.0, 16.4, 4.3, 2.2, 6.2),
        ([8, 32, 4, 5], llama_13b, kib(256) / 32.0, 8.9, 2.5, 1.1, 3.5),
        ([8, 16, 4, 1], llama_13b, kib(256) / 16.0, 23.7, 13.9, 9.9, 15.7),
        ([16, 32, 8, 5], llama_70b, kib(512) / 32.0, 15.3, 3.0, 1.3, 4.4),
        ([16, 64, 8, 5], llama_70b, kib(2048) / 64.0, 9.8, 2.0, 0.6, 2.9),
    ];
    for (size, model, slice, off, paper, even, waiting) in cases {
        let costs = llama(model, slice, None);
        let percent = |exchange| 100.0 * bubble_of(exchange, size, &costs);
        let found =
            [percent(Exchange::Off), percent(Exchange::Paper), 100.0 * perfect(size, costs)];
        for (found, expected) in found.into_iter().zip([off, paper, even]) {
            assert!((found - expected).abs() < 0.1, "{size:?}: {found:.2} for {expected}");
        }
        let balanced = percent(Exchange::Balanced);
        assert!(balanced <= found[2] + 0.3, "{size:?}: {balanced:.2} for {:.2}", found[2]);
        // With waits of owners and helpers for each other, once a unit.
        let waits = |exchange| 100.0 * bubble_of(exchange, size, &llama(model, slice, Some(1)));
        let found = waits(Exchange::Paper);
        assert!((found - waiting).abs() < 0.1, "{size:?}: {found:.2} for {waiting}");
        assert!(waits(Exchange::Balanced) <= balanced + 0.3, "{size:?}");
    }
}

#[test]
fn ranks_that_wait_for_the_pipeline_help_and_say_so() {
    let schedule = exchanging(Exchange::Balanced, 4, 8, 1, 1);
    let helps = |rank| {
        let program: Vec<Action> = schedule.program(rank).collect();
        program.iter().filter(|action| matches!(action, Action::Help(_))).count()
    };
    assert!((0..4).all(|rank| helps(rank) > 0));
    let paper = exchanging(Exchange::Paper, 4, 8, 1, 1);
    assert!((0..4).all(|rank| paper.program(rank).all(|a| !matches!(a, Action::Help(_)))));
}

#[test]
fn one_rank_exchanges_nothing() {
    for exchange in Exchange::ALL {
        let exchanging = exchanging(exchange, 1, 4, 2, 2);
        let plain = schedule(ScheduleKind::SlimPipe, 1, 4, 2, 2);
        assert!(exchanging.program(0).eq(plain.program(0)));
    }
}

#[test]
fn what_cannot_exchange_is_named_with_its_setting() {
    let few = schedule(ScheduleKind::SlimPipe, 4, 3, 2, 1).with_exchange(Exchange::Paper);
    let text = few.unwrap_err().to_string();
    assert!(
        text.contains("raise parallel.slices to 4") && text.contains("parallel.exchange"),
        "{text}"
    );
    let other = schedule(ScheduleKind::OneFOneB, 4, 1, 2, 1);
    let text = other.clone().with_exchange(Exchange::Balanced).unwrap_err().to_string();
    assert!(text.contains("1f1b") && text.contains("parallel.exchange"), "{text}");
    assert_eq!(other.clone().with_exchange(Exchange::Off), Ok(other));
    assert!(matches!("best".parse::<Exchange>(), Err(ScheduleError::UnknownExchange { .. })));
    for exchange in Exchange::ALL {
        assert_eq!(exchange.name().parse(), Ok(exchange));
    }
}

#[test]
fn every_rule_of_exchange_names_rank_action_and_reason() {
    let schedule = exchanging(Exchange::Paper, 2, 4, 1, 1);
    let moved = "xf0.3:0/0-2>1 F0.3:0";
    let programs = dump(&schedule).replacen("F0.3:0", moved, 1);
    // Rank 0 runs slice 3 while rank 1 runs slice 2.
    let sound = programs.replacen("ra0.2:0<0 F0.2:0", "ra0.2:0<0 xf0.3:0/0-2<0 F0.2:0", 1);
    let verdict = |text: &str| {
        let programs = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        verify_programs(&schedule, programs, 1)
            .map_or_else(|e| e.to_string(), |_| "sound".to_owned())
    };
    assert_eq!(verdict(&sound), "sound");
    let cases = [
        (moved, "xf0.3:0/0-2>0 F0.3:0", "there is no other rank 0"),
        (moved, "xf0.3:0/0-2>2 F0.3:0", "there is no other rank 2"),
        (moved, "xf0.3:0/0-7>1 F0.3:0", "the unit's prefix is half chunks 0-6"),
        (moved, "xf0.3:0/2-2>1 F0.3:0", "the unit's prefix is half chunks 0-6"),
        (moved, "xf0.3:0/0-2>1 xf0.3:0/1-3>1 F0.3:0", "some of it is shipped already"),
        (moved, "xf0.2:0/0-2>1 F0.3:0", "what is shipped before it is another unit's"),
        (moved, "xf0.3:0/0-1>1 xf0.2:0/1-2>1 F0.3:0", "another unit's part is shipped"),
        (moved, "xf0.3:0/0-1>1 xb0.3:0/1-2>1 F0.3:0", "forward and backward are exchanged at once"),
        (moved, "xb0.3:0/0-2>1 F0.3:0", "what is exchanged before it is for the other pass"),
        (moved, "F0.3:0 hf", "there is nobody to help"),
        (moved, "F0.3:0 xf0.1:0/0-1<1 hf", "while some rank has no unit"),
        ("F0.0:0 sa", "F0.0:0 xf0.1:0/0-1>1 sa", "what is exchanged comes right before its unit's"),
        ("xf0.3:0/0-2<0", "xf0.3:0/0-1<0", "the next message from rank 0 is for f0.3:0/0-2"),
        ("xf0.3:0/0-2<0 ", "", "deadlock"),
        (moved, "F0.3:0", "deadlock"),
    ];
    for (from, to, expected) in cases {
        let text = sound.replacen(from, to, 1);
        assert_ne!(text, sound);
        assert!(verdict(&text).contains(expected), "{to}: {}", verdict(&text));
    }
    let off = self::schedule(ScheduleKind::SlimPipe, 2, 4, 1, 1);
    let error = verify_programs(&off, parse(&sound).unwrap(), 1).unwrap_err().to_string();
    assert!(error.ends_with("the schedule exchanges no attention"), "{error}");
}

#[test]
fn balanced_is_never_slower_than_paper_where_owners_and_helpers_wait_and_hardly_without() {
    let slices = |p: u32| [p, p + 1, 2 * p, 3 * p, 4 * p].map(|n| (p, n));
    let sizes = [2, 3, 4, 6, 8].into_iter().flat_map(slices);
    let sizes = sizes.flat_map(|(p, n)| [1, 2, 4].map(|m| [1, 2].map(|v| [p, n, m, v])));
    for (size, attention) in
        sizes.flatten().flat_map(|size| [0.01, 0.1, 0.5].map(|attention| (size, attention)))
    {
        for layers in [None, Some(1), Some(4)] {
            let costs =
                Growing { forward: 1.0, backward: 2.0, attention, layers, projections: 0.2 };
            let [p, n, m, v] = size;
            let of =
                |exchange| simulate(&exchanging(exchange, p, n, m, v), &costs).unwrap().makespan;
            let ratio = of(Exchange::Balanced) / of(Exchange::Paper);
            // Without waits ranks leave the lock step that moves are made for, and a heavy unit of one
            // may by chance lie beside a light one of another.
            let most = if layers.is_some() { 1.0 + 1e-12 } else { 1.01 };
            assert!(ratio <= most, "{size:?}, attention {attention}, {layers:?}: {ratio}");
        }
    }
}
