//! Modifiers of floating-point arithmetic.

use crate::isa::opcode::Opcode;

/// Flushing of subnormals and clamping to [0, 1].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Modes {
    pub flush: bool,
    pub saturate: bool,
    /// `min` and `max` give NaN if an operand is NaN.
    pub nan: bool,
    /// Negative results become zero.
    pub relu: bool,
}

impl Modes {
    /// Takes the modifiers. Approximate forms are computed as exactly as the host can, which is
    /// within their bounds; rounding other than to the nearest is refused by whoever asks next.
    pub(super) fn parse(op: &mut Opcode<'_>) -> Self {
        for rounding in ["rn", "approx", "full", "rni"] {
            op.has(rounding);
        }
        Self {
            flush: op.has("ftz"),
            saturate: op.has("sat"),
            nan: op.has("NaN"),
            relu: op.has("relu"),
        }
    }

    /// Whether there are none.
    pub(super) fn plain(self) -> bool {
        !(self.flush || self.saturate || self.nan || self.relu)
    }

    #[inline(always)]
    pub(super) fn input(self, x: f32) -> f32 {
        if self.flush && x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
    }

    #[inline(always)]
    pub(super) fn output(self, x: f32) -> f32 {
        let x = self.input(x);
        let x = if self.relu && x < 0.0 { 0.0 } else { x };
        if self.saturate {
            // A NaN saturates to zero.
            if x > 0.0 { x.min(1.0) } else { 0.0 }
        } else {
            x
        }
    }
}

/// The smaller one, or the number if the other is NaN; zeros are ordered by sign.
#[inline(always)]
pub(super) fn smaller(a: f32, b: f32, nan: bool) -> f32 {
    if a.is_nan() || b.is_nan() {
        return pick_number(a, b, nan);
    }
    if a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

/// The larger one, or the number if the other is NaN; zeros are ordered by sign.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32, nan: bool) -> f32 {
    if a.is_nan() || b.is_nan() {
        return pick_number(a, b, nan);
    }
    if a > b || (a == b && a.is_sign_positive()) { a } else { b }
}

#[inline(always)]
fn pick_number(a: f32, b: f32, nan: bool) -> f32 {
    if nan || (a.is_nan() && b.is_nan()) {
        f32::from_bits(0x7FFF_FFFF)
    } else if a.is_nan() {
        b
    } else {
        a
    }
}
