//! When an operation that could run does run. Streams promise an order inside each stream and none
//! between them, so a correct program gives the same results under every order.

use std::{fmt, str::FromStr, time::Duration};

/// When a stream's next operation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As soon as it can.
    Eager,
    /// After a random delay, for about half of the operations.
    Random {
        /// Seed of the delays.
        seed: u64,
        /// The longest delay.
        most: Duration,
    },
    /// When somebody waits for it, or after a time: whoever forgot to wait finds nothing done.
    Late {
        /// How long an operation that nobody waits for is put off.
        grace: Duration,
    },
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Eager => write!(f, "eager"),
            Order::Random { seed, most } => write!(f, "random:{seed}:{}", most.as_micros()),
            Order::Late { grace } => write!(f, "late:{}", grace.as_millis()),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    /// Reads `eager`, `random:SEED[:MOST_MICROSECONDS]` or `late[:GRACE_MILLISECONDS]`.
    fn from_str(text: &str) -> Result<Order, String> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default();
        let numbers = parts
            .map(|part| part.parse::<u64>().map_err(|e| format!("{part:?} in {text:?}: {e}")))
            .collect::<Result<Vec<_>, _>>()?;
        match (kind, numbers.as_slice()) {
            ("eager", []) => Ok(Order::Eager),
            ("random", &[seed]) => Ok(Order::Random { seed, most: Duration::from_micros(200) }),
            ("random", &[seed, most]) => {
                Ok(Order::Random { seed, most: Duration::from_micros(most) })
            }
            ("late", []) => Ok(Order::Late { grace: Duration::from_millis(20) }),
            ("late", &[grace]) => Ok(Order::Late { grace: Duration::from_millis(grace) }),
            _ => Err(format!("{text:?}: expected eager, random:SEED[:MICROSECONDS] or late[:MS]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for text in ["eager", "random:7:300", "late:15"] {
            assert_eq!(text.parse::<Order>().unwrap().to_string(), text);
        }
        for text in ["", "random", "random:x", "late:1:2", "eager:1"] {
            assert!(text.parse::<Order>().is_err(), "{text:?} was taken");
        }
    }
}
