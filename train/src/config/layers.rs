//! Sets of layers as people write them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Layers of a model by index, written as `3` or `0-3, 8-11`, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(Vec<RangeInclusive<usize>>);

impl Layers {
    /// Whether layer `index` is one of them.
    pub fn contains(&self, index: usize) -> bool {
        self.0.iter().any(|range| range.contains(&index))
    }

    /// The highest index.
    pub fn last(&self) -> usize {
        self.0.iter().map(|range| *range.end()).max().unwrap_or(0)
    }
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |part: &str| {
            let (start, end) = part.split_once('-').unwrap_or((part, part));
            let (start, end) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
            (start <= end).then_some(start..=end)
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        let bad = || format!("is `{text}`; write layers by index, as `0-3` or `0-3, 8-11`");
        ranges.map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{start}")?,
                (start, end) => write!(f, "{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl de::Visitor<'_> for Form {
            type Value = Layers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("layers by index, such as `0-3`")
            }

            fn visit_i64<E: de::Error>(self, index: i64) -> Result<Layers, E> {
                self.visit_str(&index.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Layers, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_read_back_as_written() {
        for (text, inside) in [("3", &[3][..]), ("0-2", &[0, 1, 2]), ("0-1, 4,6-6", &[0, 1, 4, 6])]
        {
            let layers: Layers = text.parse().unwrap();
            let all: Vec<usize> = (0..20).filter(|&index| layers.contains(index)).collect();
            assert_eq!(all, inside, "{text}");
            assert_eq!(layers.last(), *inside.last().unwrap());
            assert_eq!(layers.to_string().parse(), Ok(layers));
        }
        for text in ["", "a", "3-1", "-1", "1-", "0..3", "1,,2"] {
            assert!(text.parse::<Layers>().is_err(), "{text}");
        }
    }
}
