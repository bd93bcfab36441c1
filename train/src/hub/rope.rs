//! Rotary frequencies and how they are scaled for contexts longer than a model was trained on.

use std::f64::consts::TAU;

use super::FieldError;

/// A scaling of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// All frequencies are divided by `factor`.
    Linear {
        /// How much longer the context becomes.
        factor: f64,
    },
    /// Llama 3.1's: waves longer than the original context over `low_freq_factor` are stretched by
    /// `factor`, those shorter than it over `high_freq_factor` stay, between them it is blended.
    Llama3 {
        /// How much longer the context becomes.
        factor: f64,
        /// Bounds the waves that are stretched.
        low_freq_factor: f64,
        /// Bounds the waves that stay.
        high_freq_factor: f64,
        /// The context the model was trained on first.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Checks that the numbers make sense together.
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        match *self {
            Self::Linear { factor } => positive("rope_scaling.factor", factor),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                positive("rope_scaling.factor", factor)?;
                positive("rope_scaling.low_freq_factor", low)?;
                positive("rope_scaling.high_freq_factor", high)?;
                if high <= low {
                    let what = format!("is {high}; it must be above low_freq_factor {low}");
                    return Err(FieldError::new("rope_scaling.high_freq_factor", what));
                }
                if original == 0 {
                    let field = "rope_scaling.original_max_position_embeddings";
                    return Err(FieldError::new(field, "is 0; it must be at least 1"));
                }
                Ok(())
            }
        }
    }

    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                let waves = original as f64 * frequency / TAU;
                let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                kept * frequency + (1.0 - kept) * frequency / factor
            }
        }
    }
}

pub(super) fn positive(field: &str, value: f64) -> Result<(), FieldError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(FieldError::new(field, format!("is {value}; it must be finite and above 0")))
}

/// Radians per position of each element pair: theta^(-2 j / head_dim), scaled.
pub(super) fn frequencies(theta: f64, head_dim: usize, scaling: Option<&RopeScaling>) -> Vec<f64> {
    let plain = (0..head_dim / 2).map(|j| theta.powf(-2.0 * j as f64 / head_dim as f64));
    match scaling {
        Some(scaling) => plain.map(|frequency| scaling.apply(frequency)).collect(),
        None => plain.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, as published with Llama 3.1: by wavelength, in three cases.
    fn by_wavelength(frequency: f64) -> f64 {
        let (factor, low, high, original) = (8.0, 1.0, 4.0, 8192.0);
        let wavelength = TAU / frequency;
        if wavelength < original / high {
            frequency
        } else if wavelength > original / low {
            frequency / factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }

    #[test]
    fn llama3_scaling_follows_its_definition_by_wavelength() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let plain = frequencies(500_000.0, 128, None);
        let scaled = frequencies(500_000.0, 128, Some(&scaling));
        let blended = plain.iter().zip(&scaled).filter(|(p, s)| *s < *p && **s > *p / 8.0);
        assert!(blended.count() > 3, "all three cases occur");
        for (plain, scaled) in plain.iter().zip(&scaled) {
            let expected = by_wavelength(*plain);
            assert!((scaled - expected).abs() <= 1e-14 * expected, "{scaled} {expected}");
        }
    }

    #[test]
    fn linear_scaling_stretches_every_wave_alike() {
        let plain = frequencies(10_000.0, 6, None);
        let scaled = frequencies(10_000.0, 6, Some(&RopeScaling::Linear { factor: 4.0 }));
        assert_eq!(plain[0], 1.0);
        assert!((plain[2] - 10_000f64.powf(-2.0 / 3.0)).abs() < 1e-15);
        assert_eq!(scaled, plain.iter().map(|f| f / 4.0).collect::<Vec<_>>());
    }
}
