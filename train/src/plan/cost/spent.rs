//! Where the time of a GPU goes.

use std::ops::{Add, AddAssign, Mul};

/// Seconds of a GPU, by what it does with them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Products with weights.
    pub products: f64,
    /// Attention.
    pub attention: f64,
    /// Norms, activations, residuals, the optimizer: bound by memory's bandwidth.
    pub elementwise: f64,
    /// Everything that is computed a second time.
    pub recompute: f64,
    /// Communication that nothing hides.
    pub communication: f64,
}

impl Spent {
    /// All of it.
    pub fn total(&self) -> f64 {
        let Self { products, attention, elementwise, recompute, communication } = self;
        products + attention + elementwise + recompute + communication
    }

    /// The same, as a repetition.
    pub fn again(self) -> Self {
        Self { recompute: self.total(), ..Self::default() }
    }
}

impl Add for Spent {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.products += other.products;
        self.attention += other.attention;
        self.elementwise += other.elementwise;
        self.recompute += other.recompute;
        self.communication += other.communication;
    }
}

impl Mul<f64> for Spent {
    type Output = Self;

    fn mul(self, by: f64) -> Self {
        Self {
            products: self.products * by,
            attention: self.attention * by,
            elementwise: self.elementwise * by,
            recompute: self.recompute * by,
            communication: self.communication * by,
        }
    }
}
