//! Charts as text.

use std::fmt::Write;

use super::{Chart, Kind, Row};

const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A line per rank for what it does and one for what it holds, all on one time axis of `width`
/// columns. A column is a dot if the rank was idle for most of it, or else shows what took longest: a
/// forward as the last digit of its slice, a backward as a letter (slice 0 is `a`), the weights' part
/// of one as `w`, other work as `+`.
pub fn terminal(charts: &[Chart], width: usize) -> String {
    let end = charts.iter().map(Chart::end).fold(0.0, f64::max);
    let mut text = String::new();
    for chart in charts {
        let bubble = 100.0 * chart.bubble();
        let _ = writeln!(text, "{}: ends at {:.4}, idle {bubble:.2} %", chart.title, chart.end());
        let peak = chart.ranks.iter().map(Row::peak).fold(0.0, f64::max);
        for (rank, row) in chart.ranks.iter().enumerate() {
            let _ = writeln!(text, "{rank:>4} {}", work(row, end, width));
            let _ = writeln!(text, "     {} {}", held(row, peak, end, width), amount(chart, row));
        }
    }
    text
}

fn amount(chart: &Chart, row: &Row) -> String {
    match chart.is_in_bytes {
        true => format!("{:.2} GiB", row.peak() / f64::from(1 << 30)),
        false => format!("{} units", row.peak()),
    }
}

/// What a column shows of a bar.
fn glyph(kind: Kind, slice: u32) -> char {
    let letter = |first: u8, count: u32| char::from(first + (slice % count) as u8);
    match kind {
        Kind::Forward => letter(b'0', 10),
        Kind::Backward | Kind::BackwardInput => letter(b'a', 22),
        Kind::BackwardWeight => 'w',
        Kind::Help | Kind::Vocabulary => '+',
        Kind::Other | Kind::Beside => '.',
    }
}

fn work(row: &Row, end: f64, width: usize) -> String {
    let column = end / width as f64;
    // Of each column: the time computed, and the longest part of it with what it shows.
    let mut columns = vec![(0.0, 0.0, '.'); width];
    for bar in row.bars.iter().filter(|bar| bar.kind.is_compute()) {
        let glyph = glyph(bar.kind, bar.unit.map_or(0, |unit| unit.slice));
        let first = (bar.begin / column) as usize;
        let last = ((bar.end / column).ceil() as usize).min(width);
        for (at, (busy, most, shown)) in columns.iter_mut().enumerate().take(last).skip(first) {
            let begin = column * at as f64;
            let share = bar.end.min(begin + column) - bar.begin.max(begin);
            *busy += share;
            if share > *most {
                (*most, *shown) = (share, glyph);
            }
        }
    }
    columns
        .into_iter()
        .map(|(busy, _, shown)| if 2.0 * busy < column { '.' } else { shown })
        .collect()
}

fn held(row: &Row, peak: f64, end: f64, width: usize) -> String {
    let column = end / width as f64;
    let mut most = vec![0f64; width];
    let ends = row.held.iter().skip(1).map(|(at, _)| *at).chain([end]);
    for ((begin, amount), end) in row.held.iter().zip(ends) {
        let first = (begin / column) as usize;
        let last = ((end / column).ceil() as usize).min(width);
        let columns = most.iter_mut().take(last).skip(first);
        columns.for_each(|most| *most = most.max(*amount));
    }
    let level = |amount: f64| LEVELS[(amount / peak.max(f64::MIN_POSITIVE) * 8.0).ceil() as usize];
    most.into_iter().map(level).collect()
}
