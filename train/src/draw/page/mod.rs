//! Charts as one page for a browser, with everything it needs in it.

use serde_json::{Value, json};

use super::{Bar, Chart, Kind, Row};
use crate::page::Page;

const PAGE: Page = Page {
    text: include_str!("page.html"),
    style: include_str!("page.css"),
    script: &[include_str!("page.js")],
};

/// More bars than a page draws smoothly.
const MOST_BARS: usize = 500_000;

/// More steps of what a rank holds than a page draws smoothly.
const MOST_STEPS: usize = 20_000;

/// A chart that a page cannot show.
#[derive(Debug, thiserror::Error)]
#[error(
    "the page would have {0} bars, and shows at most {MOST_BARS}: draw fewer ranks, slices or microbatches"
)]
pub struct TooLarge(usize);

/// The page: all charts below each other on one time axis.
///
/// # Errors
/// More bars than a page can show.
pub fn page(charts: &[Chart]) -> Result<String, TooLarge> {
    let bars = charts.iter().flat_map(|chart| &chart.ranks).map(|row| row.bars.len()).sum();
    if bars > MOST_BARS {
        return Err(TooLarge(bars));
    }
    let (data, mut page) = (Value::from_iter(charts.iter().map(chart)), Vec::new());
    PAGE.write(&data, |_| Ok(()), &mut page).expect("there is memory to write to");
    Ok(String::from_utf8(page).expect("all of it was text"))
}

fn chart(chart: &Chart) -> Value {
    json!({
        "title": chart.title,
        "seconds": chart.is_in_seconds,
        "bytes": chart.is_in_bytes,
        "end": chart.end(),
        "bubble": chart.bubble(),
        "ranks": chart.ranks.iter().map(row).collect::<Value>(),
    })
}

fn row(row: &Row) -> Value {
    json!({
        "busy": row.busy(),
        "peak": row.peak(),
        "bars": row.bars.iter().filter_map(bar).collect::<Value>(),
        "held": steps(&row.held),
    })
}

/// What a rank held, in no more steps than a page needs: of those that are taken together, the highest.
fn steps(held: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = held.len().div_ceil(MOST_STEPS).max(1);
    let highest = |steps: &[(f64, f64)]| steps.iter().map(|(_, held)| *held).fold(0.0, f64::max);
    held.chunks(together).map(|steps| (steps[0].0, highest(steps))).collect()
}

/// Kind, microbatch (-1: none), begin, end, label; nothing for what would lie over other bars.
fn bar(bar: &Bar) -> Option<Value> {
    let kind = match bar.kind {
        Kind::Forward => 0,
        Kind::Backward => 1,
        Kind::BackwardInput => 2,
        Kind::BackwardWeight => 3,
        Kind::Help => 4,
        Kind::Vocabulary => 5,
        Kind::Other => 6,
        Kind::Beside => return None,
    };
    Some(json!([
        kind,
        bar.unit.map_or(-1, |unit| i64::from(unit.microbatch)),
        bar.begin,
        bar.end,
        bar.label
    ]))
}
