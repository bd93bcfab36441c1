//! Time in which no run was running, which a page folds: a run that went on the next day is as readable as one
//! that never stopped.

use std::ops::Range;

use serde_json::{Value, json};

/// A pause is folded if it is longer than this part of the time that was logged. A shorter one stays to scale.
const LONG: u64 = 10;
/// What a fold takes of the page, as a part of the time that was logged.
const FOLD: u64 = 40;
/// What all folds together take at most.
const FOLDS: u64 = 10;

/// The folded pauses of a page, in their order. Times are in nanoseconds since the page's time began.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pauses {
    all: Vec<Pause>,
    /// How long each is on the page.
    shown: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Pause {
    time: Range<u64>,
    /// What the page leaves out of this pause and of those before it.
    hidden: u64,
}

impl Pauses {
    /// Those between the logs of all ranks and runs. Within a log there are none: a rank that waits is running.
    pub fn between(mut logs: Vec<Range<u64>>) -> Self {
        logs.sort_by_key(|log| log.start);
        let (mut gaps, mut logged, mut until) = (Vec::new(), 0, 0);
        for log in logs {
            if log.start > until {
                gaps.push(until..log.start);
                until = log.start;
            }
            logged += log.end.saturating_sub(until);
            until = until.max(log.end);
        }
        gaps.retain(|gap| gap.end - gap.start > logged / LONG);
        let shown = (logged / FOLD).min(logged / FOLDS / (gaps.len() as u64).max(1)).max(1);
        let hidden = gaps.iter().scan(0, |hidden, gap| {
            *hidden += gap.end - gap.start - shown;
            Some(*hidden)
        });
        let hidden: Vec<_> = hidden.collect();
        let pauses = gaps.into_iter().zip(hidden);
        Self { all: pauses.map(|(time, hidden)| Pause { time, hidden }).collect(), shown }
    }

    /// Where the page shows a time at which a log was being written.
    pub fn place(&self, time: u64) -> u64 {
        let over = self.all.partition_point(|pause| pause.time.end <= time);
        time - over.checked_sub(1).map_or(0, |last| self.all[last].hidden)
    }

    /// Where each begins on the page, how long it is there, and how long it was; in seconds.
    pub fn about(&self) -> Value {
        let seconds = |nanoseconds: u64| nanoseconds as f64 * 1e-9;
        let pauses = self.all.iter().map(|Pause { time, .. }| {
            json!({
                "at": seconds(self.place(time.start)),
                "shown": seconds(self.shown),
                "lasted": seconds(time.end - time.start),
            })
        });
        pauses.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Pauses;

    #[test]
    fn a_long_pause_takes_a_fortieth_of_what_was_logged_and_a_short_one_what_it_lasted() {
        // Two ranks, whose logs overlap: 300 were logged, then nothing for 25 and for 7000.
        let logs = vec![7325..7425, 0..100, 10..150, 175..325];
        let pauses = Pauses::between(logs);
        assert_eq!(pauses.all.len(), 1);
        assert_eq!(pauses.shown, 10);
        for (time, place) in [(0, 0), (150, 150), (175, 175), (325, 325), (7325, 335), (7425, 435)]
        {
            assert_eq!(pauses.place(time), place);
        }
        let about = &pauses.about()[0];
        let told = ["at", "shown", "lasted"].map(|what| about[what].as_f64().unwrap() * 1e9);
        assert_eq!(told.map(f64::round), [325.0, 10.0, 7000.0]);
    }

    #[test]
    fn many_pauses_take_a_tenth_together_and_what_is_logged_keeps_its_length_and_order() {
        let logs: Vec<_> = (0..100).map(|at| at * 100_000..at * 100_000 + 1000).collect();
        let pauses = Pauses::between(logs.clone());
        assert_eq!(pauses.all.len(), 99);
        let mut last = 0;
        for log in logs {
            let (begin, end) = (pauses.place(log.start), pauses.place(log.end));
            assert_eq!(end - begin, 1000);
            assert!(begin == 0 || begin > last);
            last = end;
        }
        assert!(last > 100_000 && last <= 110_000, "{last}");
    }

    #[test]
    fn logs_that_touch_or_hold_nothing_have_no_room_for_a_fold() {
        assert_eq!(Pauses::between(vec![0..50, 50..100]).all, []);
        assert_eq!(Pauses::between(Vec::new()).all, []);
        let empty = Pauses::between(vec![0..0, 9..9]);
        assert_eq!((empty.place(0), empty.place(9)), (0, 1));
    }
}
