//! All kernels.

use super::compile::Variant;

/// Every variant that operations launch, for warming the cache and for the static gates.
pub fn variants() -> Vec<Variant> {
    let launchers: [fn() -> Vec<Variant>; 0] = [];
    launchers.into_iter().flat_map(|variants| variants()).collect()
}
