//! Faults that tests plant.

use std::str::FromStr;

/// What happens to a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is gone: its connections break, its operation never ends.
    Die,
    /// Its process ends at once, with status 13.
    Exit,
    /// Its operation never ends, and nobody is told.
    Hang,
    /// Its communicator reports an asynchronous error, and its operation never ends.
    Error,
    /// It never joins a communicator: its initialisation never ends.
    Absent,
}

/// A fault of one rank at its n-th operation from now; written `KIND:RANK:N`, or `absent:RANK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// To whom: the rank in the communicator that was made of a unique id.
    pub rank: usize,
    left: u64,
}

impl Fault {
    /// Counts an operation of `rank`; the fault's kind exactly once.
    pub fn strike(&mut self, rank: usize) -> Option<Kind> {
        if rank != self.rank || self.left == 0 {
            return None;
        }
        self.left -= 1;
        (self.left == 0).then_some(self.kind)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let wrong = || {
            let kinds = "die, exit, hang, error";
            format!("expected one of {kinds} as KIND:RANK:N, or absent:RANK")
        };
        let parts: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let (kind, rank, left) = match parts.as_slice() {
            ["absent", rank] => (Kind::Absent, number(rank)?, 0),
            ["die", rank, n] => (Kind::Die, number(rank)?, number(n)?),
            ["exit", rank, n] => (Kind::Exit, number(rank)?, number(n)?),
            ["hang", rank, n] => (Kind::Hang, number(rank)?, number(n)?),
            ["error", rank, n] => (Kind::Error, number(rank)?, number(n)?),
            _ => return Err(wrong()),
        };
        Ok(Fault { kind, rank: rank as usize, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_one_rank_once() {
        let mut fault = "die:1:2".parse::<Fault>().unwrap();
        let strikes = [1, 0, 1, 1].map(|rank| fault.strike(rank));
        assert_eq!(strikes, [None, None, Some(Kind::Die), None]);
        for text in ["", "die", "die:1", "absent:1:2", "sleep:1:1"] {
            assert!(text.parse::<Fault>().is_err(), "{text:?} was taken");
        }
    }
}
