//! Cutting sequences.

use proptest::prelude::*;
use slimpipe_pipeline::schedule::{ScheduleKind, Slices, TokenCost};

use crate::sample::schedule;

fn cost(slices: &Slices, slice: u32, TokenCost { own, each_earlier }: TokenCost) -> f64 {
    slices.range(slice).map(|position| own + each_earlier * (position as f64 + 0.5)).sum()
}

#[test]
fn equal_slices_divide_the_sequence_or_say_what_would() {
    let slices = Slices::equal(48, 6).unwrap();
    assert_eq!((slices.count(), slices.seq_len(), slices.range(2)), (6, 48, 16..24));
    assert_eq!(slices.extremes(), (8, 8));
    let error = |seq_len, n| Slices::equal(seq_len, n).unwrap_err().to_string();
    let text = error(50, 6);
    assert!(
        text.contains("train.seq_len to 48 or 54, or parallel.slices to a divisor of 50"),
        "{text}"
    );
    assert!(error(3, 4).contains("train.seq_len to 4,"));
    assert!(Slices::equal(0, 1).is_err());
}

#[test]
fn attention_alone_is_balanced_by_square_roots() {
    let attention = TokenCost { own: 0.0, each_earlier: 1.0 };
    let lengths: Vec<usize> = Slices::balanced(1000, 4, attention).unwrap().lengths().collect();
    // Ends at 1000 sqrt(k / 4).
    assert_eq!(lengths, [500, 207, 159, 134]);
    let matrices = TokenCost { own: 1.0, each_earlier: 0.0 };
    assert_eq!(Slices::balanced(48, 6, matrices), Slices::equal(48, 6));
}

#[test]
fn only_the_balanced_schedule_cuts_unequally() {
    let cost = TokenCost { own: 1.0, each_earlier: 0.1 };
    for kind in [ScheduleKind::SlimPipe, ScheduleKind::Seq1F1B, ScheduleKind::TeraPipe] {
        assert_eq!(schedule(kind, 2, 4, 1, 1).cut(64, cost), Slices::equal(64, 4));
    }
    let balanced = schedule(ScheduleKind::Seq1F1BBalanced, 2, 4, 1, 1);
    assert_eq!(balanced.cut(64, cost), Slices::balanced(64, 4, cost));
    assert_eq!(balanced.cut(66, cost).unwrap().seq_len(), 66, "it need not divide");
    let error = balanced.cut(3, cost).unwrap_err().to_string();
    assert!(error.contains("train.seq_len") && error.contains("parallel.slices"), "{error}");
}

proptest! {
    #[test]
    fn balanced_slices_cover_the_sequence_and_cost_the_same_to_a_token(
        n in 1u32..40,
        more in 0usize..3000,
        own in 0.0f64..1e4,
        each_earlier in 0.0f64..10.0,
    ) {
        let token = TokenCost { own: own + 1e-3, each_earlier };
        let seq_len = n as usize + more;
        let slices = Slices::balanced(seq_len, n, token).unwrap();
        prop_assert_eq!(slices.seq_len(), seq_len);
        prop_assert_eq!(slices.lengths().sum::<usize>(), seq_len);
        prop_assert!(slices.lengths().all(|len| len > 0));
        let total: f64 = (0..n).map(|slice| cost(&slices, slice, token)).sum();
        let last_token = token.own + each_earlier * seq_len as f64;
        for slice in 0..n {
            let off = (cost(&slices, slice, token) - total / f64::from(n)).abs();
            // Ends are rounded to tokens; a slice of one token cannot be shorter.
            let shortest = slices.extremes().0 == 1;
            prop_assert!(off <= 1.001 * last_token || shortest, "slice {slice} is off by {off}");
        }
    }
}
