//! One instruction of a rank's program.

use std::fmt;
use std::str::FromStr;

use super::Unit;
use super::unit::number;

/// What a rank does next. Units are always the rank's own: the one that will use a received message,
/// the one that made a sent one.
///
/// Neighbouring stages on one rank (p = 1, or a V layout's turn) exchange no message: there is no
/// send and no receive between them, and what the earlier stage's unit made is handed over on the
/// rank. The output of `Forward(unit)` is then the input of the same (microbatch, slice) on the
/// next stage, and the input gradient of `Backward(unit)` the output gradient of the previous one.
///
/// Written as in the table; [`Programs`](super::Programs) uses this text.
///
/// | action | text |
/// |---|---|
/// | `Forward`, `Backward` | `F0.3:1`, `B0.3:1` |
/// | `RecvActivation`, `RecvGradient` | `RA0.3:1<2`, `RG0.3:1<2` (from rank 2) |
/// | `SendActivation`, `SendGradient` | `SA0.3:1>2`, `SG0.3:1>2` (to rank 2) |
/// | `ReduceTied` | `TIED=3` (with rank 3) |
/// | `ReduceGradientNorm`, `OptimizerStep` | `NORM`, `STEP` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Take the input of `unit`: the previous stage's output for the same slice.
    RecvActivation {
        /// The unit that will use it.
        unit: Unit,
        /// The rank of the previous stage.
        from: u32,
    },
    /// Run a unit forward.
    Forward(Unit),
    /// Hand the output of `unit` to the next stage.
    SendActivation {
        /// The unit that made it.
        unit: Unit,
        /// The rank of the next stage.
        to: u32,
    },
    /// Take the gradient of the output of `unit` from the next stage.
    RecvGradient {
        /// The unit that will use it.
        unit: Unit,
        /// The rank of the next stage.
        from: u32,
    },
    /// Run a unit backward; what it saved is gone afterwards.
    Backward(Unit),
    /// Hand the gradient of the input of `unit` to the previous stage.
    SendGradient {
        /// The unit that made it.
        unit: Unit,
        /// The rank of the previous stage.
        to: u32,
    },
    /// Add the gradient of the parameter that the first and the last stage share, on both ranks.
    ReduceTied {
        /// The other of the two ranks.
        peer: u32,
    },
    /// Combine the squared gradient norms of all ranks; gradients are complete from here on.
    ReduceGradientNorm,
    /// Update this rank's parameters.
    OptimizerStep,
}

impl Action {
    /// The unit it is about, if it is about one.
    pub fn unit(self) -> Option<Unit> {
        match self {
            Self::Forward(unit)
            | Self::Backward(unit)
            | Self::RecvActivation { unit, .. }
            | Self::SendActivation { unit, .. }
            | Self::RecvGradient { unit, .. }
            | Self::SendGradient { unit, .. } => Some(unit),
            Self::ReduceTied { .. } | Self::ReduceGradientNorm | Self::OptimizerStep => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecvActivation { unit, from } => write!(f, "RA{unit}<{from}"),
            Self::Forward(unit) => write!(f, "F{unit}"),
            Self::SendActivation { unit, to } => write!(f, "SA{unit}>{to}"),
            Self::RecvGradient { unit, from } => write!(f, "RG{unit}<{from}"),
            Self::Backward(unit) => write!(f, "B{unit}"),
            Self::SendGradient { unit, to } => write!(f, "SG{unit}>{to}"),
            Self::ReduceTied { peer } => write!(f, "TIED={peer}"),
            Self::ReduceGradientNorm => f.write_str("NORM"),
            Self::OptimizerStep => f.write_str("STEP"),
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rank = |digits: &str| {
            number(digits).ok_or_else(|| format!("`{digits}` in `{text}` is not a rank"))
        };
        let message = |rest: &str, sign: char| {
            let (unit, peer) = rest.split_once(sign).ok_or_else(|| {
                format!("`{text}` names no peer; write a unit, `{sign}` and a rank, as in 0.3:1{sign}2")
            })?;
            Ok::<_, String>((unit.parse::<Unit>()?, rank(peer)?))
        };
        if let Some(rest) = text.strip_prefix("RA") {
            message(rest, '<').map(|(unit, from)| Self::RecvActivation { unit, from })
        } else if let Some(rest) = text.strip_prefix("SA") {
            message(rest, '>').map(|(unit, to)| Self::SendActivation { unit, to })
        } else if let Some(rest) = text.strip_prefix("RG") {
            message(rest, '<').map(|(unit, from)| Self::RecvGradient { unit, from })
        } else if let Some(rest) = text.strip_prefix("SG") {
            message(rest, '>').map(|(unit, to)| Self::SendGradient { unit, to })
        } else if let Some(rest) = text.strip_prefix("TIED=") {
            rank(rest).map(|peer| Self::ReduceTied { peer })
        } else if text == "NORM" {
            Ok(Self::ReduceGradientNorm)
        } else if text == "STEP" {
            Ok(Self::OptimizerStep)
        } else if let Some(rest) = text.strip_prefix('F') {
            rest.parse().map(Self::Forward)
        } else if let Some(rest) = text.strip_prefix('B') {
            rest.parse().map(Self::Backward)
        } else {
            Err(format!("`{text}` is not an action; they begin with F, B, RA, SA, RG, SG, TIED=, NORM or STEP"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_reads_back_as_written() {
        let unit = Unit { microbatch: 1, slice: 22, chunk: 3 };
        for action in [
            Action::RecvActivation { unit, from: 7 },
            Action::Forward(unit),
            Action::SendActivation { unit, to: 0 },
            Action::RecvGradient { unit, from: 1 },
            Action::Backward(unit),
            Action::SendGradient { unit, to: 15 },
            Action::ReduceTied { peer: 4 },
            Action::ReduceGradientNorm,
            Action::OptimizerStep,
        ] {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
    }

    #[test]
    fn malformed_actions_say_what_is_wrong() {
        for (text, what) in [
            ("X0.0", "not an action"),
            ("F", "not a unit"),
            ("SA0.1:0", "names no peer"),
            ("SA0.1:0<1", "names no peer"),
            ("RG0.1:0<x", "not a rank"),
            ("TIED=", "not a rank"),
        ] {
            let error = text.parse::<Action>().unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
