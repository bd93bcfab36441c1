//! When a planted fault strikes.

use std::{fmt, str::FromStr};

/// Strikes once, at the n-th thing from now whose name matches. Written `NAME:N`, or `N` for any name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    name: Option<String>,
    left: u64,
}

impl Trigger {
    /// Strikes at the `n`-th thing called `name` (any, if `None`) from now, counted from 1.
    pub fn new(name: Option<&str>, n: u64) -> Trigger {
        Trigger { name: name.map(str::to_owned), left: n }
    }

    /// Counts one thing called `name`; true exactly once.
    pub fn strikes(&mut self, name: &str) -> bool {
        if self.left == 0 || self.name.as_deref().is_some_and(|own| own != name) {
            return false;
        }
        self.left -= 1;
        self.left == 0
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}:{}", self.left),
            None => write!(f, "{}", self.left),
        }
    }
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Trigger, String> {
        let (name, n) = match text.rsplit_once(':') {
            Some((name, n)) => (Some(name), n),
            None => (None, text),
        };
        let n = n.parse().map_err(|e| format!("{text:?}: expected N or NAME:N ({e})"))?;
        if n == 0 { Err(format!("{text:?}: counted from 1")) } else { Ok(Trigger::new(name, n)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_strikes_once_at_the_nth_match() {
        let mut trigger = "copy:2".parse::<Trigger>().unwrap();
        let strikes = ["copy", "fill", "copy", "copy", "copy"].map(|name| trigger.strikes(name));
        assert_eq!(strikes, [false, false, true, false, false]);
        let mut any = Trigger::new(None, 1);
        assert!(any.strikes("whatever") && !any.strikes("whatever"));
        assert!("0".parse::<Trigger>().is_err() && "copy".parse::<Trigger>().is_err());
    }
}
