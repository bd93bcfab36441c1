use crate::schedule::{Action, Unit};

/// The rule that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A unit outside of the schedule's numbers.
    #[error("there is no such unit; the schedule has {microbatches} microbatches, {slices} slices and {chunks} chunks per rank")]
    NoSuchUnit {
        /// The schedule's microbatches.
        microbatches: u32,
        /// Its slices.
        slices: u32,
        /// Its chunks per rank.
        chunks: u32,
    },
    /// A message from or to a rank that does not hold the neighbouring stage.
    #[error("{}", match neighbour {
        Some(rank) => format!("the neighbouring stage is on rank {rank}"),
        None => "there is no neighbouring stage on another rank".to_owned(),
    })]
    WrongPeer {
        /// The rank of the neighbouring stage, if it is on another rank.
        neighbour: Option<u32>,
    },
    /// An action that may happen once happens again.
    #[error("happens twice")]
    Twice,
    /// An action before one that has to come first.
    #[error("comes before {first}")]
    TooEarly {
        /// What has to come first.
        first: Action,
    },
    /// Something a program has to do is not in it.
    #[error("the program ends without {missing}")]
    Missing {
        /// What is missing.
        missing: Action,
    },
    /// An action after the optimizer's step.
    #[error("comes after the optimizer's step")]
    AfterStep,
    /// More units in flight than the schedule allows.
    #[error("{in_flight} units would be in flight, more than the {bound} of the schedule")]
    TooManyInFlight {
        /// Units in flight after the action.
        in_flight: u32,
        /// The schedule's bound.
        bound: u32,
    },
    /// The next message on the way is another one.
    #[error("the next message from rank {from} is that of its {sent}")]
    Mismatched {
        /// The sender.
        from: u32,
        /// The unit whose message arrives.
        sent: Unit,
    },
    /// The ranks wait for each other, for ever.
    #[error("deadlock with {capacity} messages per channel: {waits}")]
    Deadlock {
        /// Messages a channel holds.
        capacity: u32,
        /// What each rank that cannot go on waits for.
        waits: String,
    },
}
