use super::{Schedule, ScheduleKind};

/// What a schedule comes to when all units cost the same and messages nothing; where a backward has
/// two parts, also each part the same as a forward. Sources: SlimPipe (arXiv 2504.14519) and its
/// artifact; GPipe; DAPPLE and Megatron-LM for 1F1B and interleaving; for split backwards the papers
/// that their builders name, with exact values for few microbatches and for V-Half's warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formulas {
    /// Idle part of the step: (p - 1) / (m n v + p - 1), with n or v 1 where the schedule has none;
    /// about a third of it for zb-h1, a sixth for zb-v, and 7/12 for v-half.
    pub bubble_fraction: f64,
    /// Activations on rank 0, as a multiple of those of one microbatch through the whole model.
    pub activation_factor: f64,
}

impl Formulas {
    /// The figures of `schedule`.
    pub fn of(schedule: &Schedule) -> Self {
        let [p, n, v] = [schedule.ranks(), schedule.slices(), schedule.chunks()].map(f64::from);
        let (work, idle) = (work_slots(schedule) as f64, idle_slots(schedule) as f64);
        Self {
            bubble_fraction: idle / (work + idle),
            // A unit holds 1 / (p n v) of a microbatch's activations.
            activation_factor: schedule.in_flight_peak(0) as f64 / (p * n * v),
        }
    }
}

/// The rank's work: in units, or, where backward is split, in thirds of a unit.
fn work_slots(schedule: &Schedule) -> i64 {
    let units = schedule.units() as i64;
    match schedule.kind() {
        ScheduleKind::ZbH1 | ScheduleKind::ZbV | ScheduleKind::VHalf => 3 * units,
        _ => units,
    }
}

/// What the step takes longer than the work, in the same slots.
fn idle_slots(schedule: &Schedule) -> i64 {
    let (p, m) = (i64::from(schedule.ranks()), i64::from(schedule.microbatches()));
    let fill = p - 1;
    match schedule.kind() {
        ScheduleKind::ZbH1 => fill.max(2 * fill + 1 - m),
        // With 2p - 1 microbatches only the time until a rank has its first input is left.
        ScheduleKind::ZbV => fill.max(3 * fill - m).max(4 * fill + 3 - 3 * m),
        ScheduleKind::VHalf if m == 1 => 4 * fill,
        ScheduleKind::VHalf if p % 2 == 0 => (7 * p / 2 - 2).max(4 * fill + 3 - m),
        ScheduleKind::VHalf => (7 * fill / 2).max(4 * fill + 1 - m),
        _ => fill,
    }
}
