//! What bf16 kernels have to keep to beside f64.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;

/// Most that the error of a result may be.
pub const FORWARD: f64 = 3e-3;
/// Most that the error of a gradient may be.
pub const GRADIENT: f64 = 1e-2;

/// The norm of the difference from the reference, relative to that of the reference. Both must be
/// minus infinity in the same places, and nothing else may be infinite or no number.
fn error<T: Into<f64> + Copy>(got: &[T], reference: &[f64]) -> f64 {
    assert_eq!(got.len(), reference.len());
    let (mut difference, mut norm) = (0.0, 0.0);
    for (i, (&got, &expected)) in got.iter().zip(reference).enumerate() {
        let got: f64 = got.into();
        if expected == f64::NEG_INFINITY {
            assert_eq!(got, expected, "element {i}");
            continue;
        }
        assert!(got.is_finite(), "element {i} is {got}, expected {expected}");
        difference += (got - expected).powi(2);
        norm += expected * expected;
    }
    if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() }
}

/// So many elements that a single rounding does not count for much.
const MANY: usize = 32;
/// Half of a bf16's last place, relative.
const ROUNDING: f64 = 1.0 / 256.0;

/// Refuses an error of more than `most`, of `case`. `--nocapture` shows the errors that are the largest of their
/// kind so far.
#[track_caller]
pub fn assert_within<T: Into<f64> + Copy>(
    what: &'static str,
    got: &[T],
    reference: &[f64],
    most: f64,
    case: &dyn Debug,
) {
    static WORST: Mutex<BTreeMap<&str, f64>> = Mutex::new(BTreeMap::new());
    let error = error(got, reference);
    let few = got.len() < MANY;
    let most = if few && size_of::<T>() == 2 { most.max(ROUNDING) } else { most };
    // Written so that a NaN fails.
    assert!(error <= most, "{what} of {case:?}: an error of {error:.2e}, at most {most:.0e}");
    let mut all = WORST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let worst = all.entry(what).or_insert(0.0);
    if !few && error > *worst {
        *worst = error;
        eprintln!("worst error of {what}: {error:.2e} (at most {most:.0e})");
    }
}
