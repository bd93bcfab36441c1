use super::Schedule;

/// What a schedule comes to when all units cost the same and messages nothing. Sources: SlimPipe
/// (arXiv 2504.14519) and its artifact; GPipe; DAPPLE and Megatron-LM for 1F1B and interleaving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formulas {
    /// Idle part of the step: (p - 1) / (m n v + p - 1), with n or v 1 where the schedule has none.
    pub bubble_fraction: f64,
    /// Activations on rank 0, as a multiple of those of one microbatch through the whole model.
    pub activation_factor: f64,
}

impl Formulas {
    /// The figures of `schedule`.
    pub fn of(schedule: &Schedule) -> Self {
        let [p, n, m, v] =
            [schedule.ranks(), schedule.slices(), schedule.microbatches(), schedule.chunks()]
                .map(f64::from);
        Self {
            bubble_fraction: (p - 1.0) / (m * n * v + p - 1.0),
            // A unit holds 1 / (p n v) of a microbatch's activations.
            activation_factor: schedule.in_flight_peak(0) as f64 / (p * n * v),
        }
    }
}
