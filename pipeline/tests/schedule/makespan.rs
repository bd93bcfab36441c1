//! Schedules in time: units of equal cost, free messages, channels of bounded room.

use std::collections::{HashMap, VecDeque};

use crate::sample::{every_schedule, schedule};
use slimpipe_pipeline::schedule::{Action, Formulas, Schedule, ScheduleKind, verify};

const FORWARD: u64 = 1;
const BACKWARD: u64 = 2;

/// Messages from one rank to another.
#[derive(Default)]
struct Channel {
    /// When each unread message was sent.
    sent: VecDeque<u64>,
    /// When each message that was read made room.
    room: VecDeque<u64>,
    sends: usize,
}

/// When the last rank ends its step, if channels hold `capacity` messages.
fn makespan(schedule: &Schedule, capacity: usize) -> u64 {
    let ranks = 0..schedule.ranks();
    let mut programs: Vec<_> = ranks.clone().map(|r| schedule.program(r).peekable()).collect();
    let mut clocks = vec![0u64; programs.len()];
    let mut channels: HashMap<(u32, u32, bool), Channel> = HashMap::new();
    while programs.iter_mut().any(|program| program.peek().is_some()) {
        let mut moved = false;
        for rank in ranks.clone() {
            let (program, clock) = (&mut programs[rank as usize], &mut clocks[rank as usize]);
            while let Some(&action) = program.peek() {
                let (key, is_send) = match action {
                    Action::SendActivation { to, .. } => ((rank, to, false), true),
                    Action::SendGradient { to, .. } => ((rank, to, true), true),
                    Action::RecvActivation { from, .. } => ((from, rank, false), false),
                    Action::RecvGradient { from, .. } => ((from, rank, true), false),
                    work => {
                        *clock += match work {
                            Action::Forward(_) => FORWARD,
                            Action::Backward(_) => BACKWARD,
                            Action::BackwardInput(_) | Action::BackwardWeight(_) => BACKWARD / 2,
                            _ => 0,
                        };
                        program.next();
                        continue;
                    }
                };
                let channel = channels.entry(key).or_default();
                if is_send && channel.sends < capacity {
                    channel.sends += 1;
                } else {
                    let awaited = if is_send { &mut channel.room } else { &mut channel.sent };
                    let Some(time) = awaited.pop_front() else { break };
                    *clock = time.max(*clock);
                }
                let noted = if is_send { &mut channel.sent } else { &mut channel.room };
                noted.push_back(*clock);
                program.next();
                moved = true;
            }
        }
        assert!(moved || programs.iter_mut().all(|p| p.peek().is_none()), "{schedule:?} deadlocks");
    }
    clocks.into_iter().max().unwrap()
}

#[test]
fn idle_time_is_exactly_the_formula_with_the_least_room_for_messages() {
    for schedule in every_schedule() {
        let work = schedule.units() * (FORWARD + BACKWARD);
        let span = makespan(&schedule, schedule.channel_capacity());
        let idle = (span - work) as f64 / span as f64;
        let expected = Formulas::of(&schedule).bubble_fraction;
        assert!((idle - expected).abs() < 1e-12, "{schedule:?}: {idle} for {expected}");
    }
}

/// Peaks by rank, makespan and idle part of the work, of one of the reference's examples.
fn sanity(kind: ScheduleKind, [p, n, m, v]: [u32; 4]) -> (Vec<u64>, u64, f64) {
    let schedule = schedule(kind, p, n, m, v);
    let capacity = schedule.channel_capacity();
    let peaks = verify(&schedule, capacity).unwrap().in_flight_peak;
    let (span, work) = (makespan(&schedule, capacity), schedule.units() * (FORWARD + BACKWARD));
    (peaks, span, (span - work) as f64 / work as f64)
}

#[test]
fn the_reference_sanity_values_hold() {
    let slimpipe = |size| sanity(ScheduleKind::SlimPipe, size);
    let (peaks, _, bubble) = slimpipe([4, 8, 2, 1]);
    assert_eq!((peaks, bubble), (vec![14, 12, 10, 8], 0.1875));
    let (peaks, span, _) = slimpipe([8, 32, 4, 5]);
    assert_eq!((peaks, span), ((0..8).map(|rank| 174 - 2 * rank).collect(), 1941));
    let (peaks, span, _) = slimpipe([16, 64, 8, 5]);
    assert_eq!((peaks, span), ((0..16).map(|rank| 350 - 2 * rank).collect(), 7725));
    let (peaks, span, _) = slimpipe([4, 16, 8, 10]);
    assert_eq!((peaks, span), (vec![166, 164, 162, 160], 3849));
    let (peaks, _, bubble) = sanity(ScheduleKind::OneFOneB, [4, 1, 4, 1]);
    assert_eq!((peaks, bubble), (vec![4, 3, 2, 1], 0.75));
    let (peaks, _, bubble) = sanity(ScheduleKind::Seq1F1B, [8, 8, 4, 1]);
    assert_eq!((peaks, bubble), ((8..16).rev().collect(), 0.21875));
    let (peaks, _, bubble) = sanity(ScheduleKind::Interleaved, [4, 1, 8, 3]);
    assert_eq!((peaks, bubble), (vec![15, 13, 11, 9], 0.125));
}

#[test]
fn zb_h1_idles_a_third_of_what_1f1b_does() {
    let size = [4, 1, 6, 1];
    let (peaks, span, _) = sanity(ScheduleKind::ZbH1, size);
    let (_, one_f_one_b, _) = sanity(ScheduleKind::OneFOneB, size);
    // Three slots per microbatch, each of one unit of time.
    assert_eq!((span - 18, one_f_one_b - 18), (3, 9));
    assert_eq!(peaks, [4; 4]);
}

#[test]
fn no_zb_v_rank_waits_between_its_first_action_and_its_last() {
    for p in 1..=7 {
        for m in 2 * p - 1..2 * p + 4 {
            let schedule = schedule(ScheduleKind::ZbV, p, 1, m, 2);
            // Rank p - 1 has its first input after p - 1 forwards, and nobody is longer than that
            // beyond its work: so rank r begins at r, and none can pause.
            let work = schedule.units() * (FORWARD + BACKWARD);
            assert_eq!(makespan(&schedule, 1), work + u64::from(p) - 1);
            assert_eq!(schedule.in_flight_peak(p - 1), 2 * u64::from(p));
        }
    }
}

#[test]
fn v_half_holds_half_of_1f1b_and_a_unit_more() {
    for p in 2..=12 {
        let (m, units) = (3 * p, f64::from(2 * p));
        let schedule = schedule(ScheduleKind::VHalf, p, 1, m, 2);
        let peaks = verify(&schedule, 1).unwrap().in_flight_peak;
        assert!(peaks.iter().all(|&peak| peak as f64 / units <= 0.5 + 2.0 / units), "{peaks:?}");
        let idle = makespan(&schedule, 1) - schedule.units() * (FORWARD + BACKWARD);
        // 1F1B idles 6 (p - 1) slots of half a stage.
        assert!(idle <= 3 * u64::from(p - 1) + u64::from(p), "p={p}: {idle}");
    }
}
