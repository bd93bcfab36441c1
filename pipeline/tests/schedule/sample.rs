//! Schedules to test with.

use proptest::prelude::*;
use slimpipe_pipeline::schedule::{Exchange, Schedule, ScheduleKind};

/// A schedule that exists.
pub fn schedule(kind: ScheduleKind, p: u32, n: u32, m: u32, v: u32) -> Schedule {
    Schedule::new(kind, p, n, m, v).unwrap_or_else(|error| panic!("{error}"))
}

/// Every schedule there is up to a small size; those with a split backward also with many microbatches.
pub fn every_schedule() -> impl Iterator<Item = Schedule> {
    use ScheduleKind::{VHalf, ZbH1, ZbV};
    let many = (1..=6).flat_map(|p| (6..=14).map(move |m| (p, m)));
    let split = many.flat_map(|(p, m)| {
        [(ZbH1, 1), (ZbV, 2), (VHalf, 2)].map(|(kind, v)| schedule(kind, p, 1, m, v))
    });
    let sizes = (1..=5)
        .flat_map(|p| (1..=9).map(move |n| (p, n)))
        .flat_map(|(p, n)| (1..=5).map(move |m| (p, n, m)))
        .flat_map(|(p, n, m)| (1..=3).map(move |v| (p, n, m, v)));
    let all = sizes.flat_map(|(p, n, m, v)| {
        ScheduleKind::ALL.into_iter().filter_map(move |kind| Schedule::new(kind, p, n, m, v).ok())
    });
    all.chain(split)
}

/// slimpipe with exchange.
pub fn exchanging(exchange: Exchange, p: u32, n: u32, m: u32, v: u32) -> Schedule {
    let schedule = schedule(ScheduleKind::SlimPipe, p, n, m, v);
    schedule.with_exchange(exchange).unwrap_or_else(|error| panic!("{error}"))
}

/// The schedule with a part of the vocabulary on every rank.
pub fn sharing(schedule: Schedule) -> Schedule {
    schedule.with_vocabulary(true).unwrap_or_else(|error| panic!("{error}"))
}

/// Any schedule of moderate size, with and without a shared vocabulary where it can have one, and slimpipe's with any exchange.
pub fn any_schedule() -> impl Strategy<Value = Schedule> {
    let kind = prop::sample::select(ScheduleKind::ALL.to_vec());
    let exchange = prop::sample::select(Exchange::ALL.to_vec());
    let size = (1u32..9, 1u32..17, 1u32..7, 1u32..5);
    let plain = (kind, size, exchange).prop_map(|(kind, (p, n, m, v), exchange)| match kind {
        ScheduleKind::SlimPipe if exchange != Exchange::Off => {
            exchanging(exchange, p, n.max(p), m, v)
        }
        ScheduleKind::SlimPipe if v > 1 => schedule(kind, p, n.max(p), m, v),
        ScheduleKind::SlimPipe => schedule(kind, p, n, m, v),
        ScheduleKind::TeraPipe | ScheduleKind::Seq1F1B | ScheduleKind::Seq1F1BBalanced => {
            schedule(kind, p, n, m, 1)
        }
        ScheduleKind::GPipe | ScheduleKind::OneFOneB => schedule(kind, p, 1, m, 1),
        ScheduleKind::Interleaved => schedule(kind, p, 1, m * p, v),
        ScheduleKind::ZbH1 => schedule(kind, p, 1, n * m, 1),
        ScheduleKind::ZbV | ScheduleKind::VHalf => schedule(kind, p, 1, n * m, 2),
    });
    (plain, any::<bool>())
        .prop_map(|(plain, shared)| plain.clone().with_vocabulary(shared).unwrap_or(plain))
}
