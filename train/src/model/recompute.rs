//! What a layer's forward keeps for its backward.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a layer does not keep, and backward makes again.
///
/// With width h, `h_kv` = h times K/V heads over heads, and MLP width f, a layer keeps per token, in bf16,
/// so many bytes besides K and V (4 `h_kv`) and its statistics (two norms' and the heads' log-sum-exp, f32
/// each). Norms' and the activation's outputs are never kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Recompute {
    /// Nothing that takes a product is made again: 8h + 4f.
    #[default]
    None,
    /// The MLP's first products (FC1: gate and up) are: 8h.
    Partial,
    /// All of the layer is, except K and V, which stay for the later slices, and the last product, which
    /// backward does not need: 2h.
    Full,
}

impl Recompute {
    /// All of them, from most kept to least.
    pub const ALL: [Self; 3] = [Self::None, Self::Partial, Self::Full];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recompute {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|way| way.name() == name);
        known.ok_or_else(|| format!("is `{name}`; it must be `none`, `partial` or `full`"))
    }
}

impl TryFrom<String> for Recompute {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}
