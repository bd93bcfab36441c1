//! What a rank holds, by what it is for.

use std::fmt;

/// What memory is for; the terms of the planner's breakdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Parameters and their gradients.
    Parameters,
    /// Optimizer state.
    Optimizer,
    /// What forwards save for backwards, keys and values included.
    Activations,
    /// Logits, or what the loss keeps of them.
    Logits,
    /// Keys and values that stay although their activations do not.
    KvCache,
    /// Gradients of keys and values.
    KvGradients,
    /// What a recomputation makes again.
    Recompute,
    /// Temporary tensors and messages.
    Transient,
}

impl Category {
    /// Number of categories.
    pub const COUNT: usize = 8;

    /// All categories, in the order of their indices.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Parameters,
        Self::Optimizer,
        Self::Activations,
        Self::Logits,
        Self::KvCache,
        Self::KvGradients,
        Self::Recompute,
        Self::Transient,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        [
            "parameters + gradients",
            "optimizer",
            "activations",
            "logits",
            "kv cache",
            "kv gradients",
            "recompute",
            "transient",
        ][self as usize]
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes by category. A change may be negative; what is held never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held([i64; Category::COUNT]);

impl Held {
    /// Nothing.
    pub const NONE: Self = Self([0; Category::COUNT]);

    /// Bytes of one category only.
    pub fn of(category: Category, bytes: i64) -> Self {
        Self::NONE.with(category, bytes)
    }

    /// The same with `bytes` more of a category.
    #[must_use]
    pub fn with(mut self, category: Category, bytes: i64) -> Self {
        self.0[category as usize] += bytes;
        self
    }

    /// Bytes of a category.
    pub fn get(&self, category: Category) -> i64 {
        self.0[category as usize]
    }

    /// Bytes of all categories together.
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Adds a change.
    pub fn add(&mut self, change: &Self) {
        self.0.iter_mut().zip(change.0).for_each(|(held, change)| *held += change);
    }
}

impl std::ops::Neg for Held {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.map(|bytes| -bytes))
    }
}
