//! Messages between the ranks of a chart.

use std::collections::HashMap;

use super::{Bar, Chart};

/// A message: who sent it and when, and who had received it when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Message<'a> {
    /// `act` or `grad`.
    pub what: &'a str,
    pub from: u32,
    pub sent: f64,
    pub to: u32,
    pub received: f64,
}

/// The messages whose both ends the chart has. Of those of one kind, microbatch and slice, from one rank to
/// another, the first that is sent is the first to be received.
pub(crate) fn messages(chart: &Chart) -> Vec<Message<'_>> {
    let mut sent: HashMap<_, Vec<f64>> = HashMap::new();
    let mut received: HashMap<_, Vec<f64>> = HashMap::new();
    for (rank, row) in (0u32..).zip(&chart.ranks) {
        for bar in &row.bars {
            let (Some(peer), Some(unit)) = (bar.peer, bar.unit) else { continue };
            let Some((way, what)) = words(bar) else { continue };
            let key = |from, to| (what, unit.microbatch, unit.slice, from, to);
            match way {
                "send" => sent.entry(key(rank, peer)).or_default().push(bar.begin),
                "recv" => received.entry(key(peer, rank)).or_default().push(bar.end),
                _ => {}
            }
        }
    }
    let mut all: Vec<_> = (sent.iter())
        .filter_map(|(key, sent)| Some((key, sent.iter().zip(received.get(key)?))))
        .flat_map(|(&(what, _, _, from, to), times)| {
            times.map(move |(&sent, &received)| Message { what, from, sent, to, received })
        })
        .collect();
    all.sort_by(|a, b| a.sent.total_cmp(&b.sent).then(a.from.cmp(&b.from)).then(a.to.cmp(&b.to)));
    all
}

/// Which way a message goes, and what it is.
fn words(bar: &Bar) -> Option<(&str, &str)> {
    let (words, _) = bar.label.split_once(" mb")?;
    words.split_once(' ')
}
