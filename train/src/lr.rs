//! The learning rate of a step: linear warm-up, then a cosine down to `train.min_lr`.

use crate::config::TrainSettings;

/// The learning rate of step `step` (from 1): lr step / warmup while warming up, then
/// min + (lr - min) (1 + cos(pi x)) / 2, x going from 0 to 1 over the remaining steps.
pub fn at(train: &TrainSettings, step: u64) -> f64 {
    let (lr, min) = (train.lr, train.min_lr);
    if step <= train.warmup_steps {
        return lr * step as f64 / train.warmup_steps as f64;
    }
    let rest = train.steps.saturating_sub(train.warmup_steps).max(1) as f64;
    let progress = ((step - train.warmup_steps) as f64 / rest).min(1.0);
    min + (lr - min) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_linearly_and_falls_to_its_minimum() {
        let train = TrainSettings {
            lr: 1.0,
            min_lr: 0.1,
            warmup_steps: 4,
            steps: 12,
            ..TrainSettings::default()
        };
        assert_eq!([1, 2, 4].map(|step| at(&train, step)), [0.25, 0.5, 1.0]);
        assert!((at(&train, 8) - 0.55).abs() < 1e-12);
        assert!((at(&train, 12) - 0.1).abs() < 1e-12);
        assert!((at(&train, 100) - 0.1).abs() < 1e-12);
    }
}
