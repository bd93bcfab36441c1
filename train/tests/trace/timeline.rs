//! Timelines and exports for Perfetto that are damaged: a chart or an error comes of them, never a panic, and
//! whatever is a chart can be drawn.

use std::fs;
use std::path::Path;
use std::time::Duration;

use slimpipe_pipeline::execute::{Span, Work};
use slimpipe_pipeline::schedule::Unit;
use slimpipe_train::draw::{Chart, page, perfetto, portable, terminal};
use slimpipe_train::trace::export::{Format, Options, export};
use tempfile::TempDir;

use crate::counting::counted;
use crate::fuzz::{Fuzz, fuzz};
use crate::program;

const CASES: u64 = 1000;
/// What rows of 65,536 ranks take: a file may name the last of them alone.
const ROWS: usize = 8 << 20;

/// Reads `bytes`, whatever they are, and draws what comes of them.
fn read(path: &Path, bytes: &[u8]) -> bool {
    fs::write(path, bytes).unwrap();
    let (chart, cost) = counted(|| Chart::read(path));
    assert!(cost <= ROWS + 64 * bytes.len(), "{cost} bytes to read {}", bytes.len());
    match chart {
        Ok(chart) => {
            assert!(chart.ranks.iter().any(|row| !row.bars.is_empty()));
            let drawn = [chart];
            assert!(page(&drawn).is_ok() && !terminal(&drawn, 40).is_empty());
            assert!(perfetto(&drawn)["traceEvents"].is_array());
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("is no timeline of a run: "), "{error}");
            false
        }
    }
}

/// Changes one thing: a byte, a number, or a piece that is lost, repeated or elsewhere.
fn mutate(choose: &mut Fuzz, bytes: &mut Vec<u8>) {
    let (at, len) = (choose.below(bytes.len()), choose.below(60));
    let end = bytes.len().min(at + len);
    match choose.below(7) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] = choose.number() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            let to = choose.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        // A number that is there becomes another.
        4..=6 => {
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            let Some(begin) = bytes.iter().skip(at).position(is_digit).map(|more| at + more) else {
                return;
            };
            let count = bytes[begin..].iter().take_while(|byte| is_digit(byte)).count();
            let number = match choose.below(4) {
                0 => format!("-{}", choose.number()),
                1 => format!("{}e{}", choose.below(9), choose.below(320)),
                _ => choose.number().to_string(),
            };
            bytes.splice(begin..begin + count, number.into_bytes());
        }
        _ => {}
    }
}

fn timeline() -> Vec<u8> {
    let unit = |slice| Unit { microbatch: 0, slice, chunk: 1 };
    let span = |work, start, end, held| {
        let (start, end) = (Duration::from_millis(start), Duration::from_millis(end));
        Span { work, start, end, held }
    };
    let ranks = [0, 1].map(|rank| {
        let to = 1 - rank;
        portable(&[
            span(Work::ReceiveActivation { unit: unit(rank), from: to }, 1, 4, 100),
            span(Work::Forward(unit(rank)), 4, 9, 200),
            span(Work::SendActivation { unit: unit(rank), to }, 9, 10, 300),
            span(Work::Backward(unit(rank)), 12, 19, 0),
        ])
    });
    let chart = Chart::measured("run".to_owned(), ranks.into(), Some(1 << 60));
    perfetto(&[chart]).to_string().into_bytes()
}

#[test]
fn any_damage_of_a_timeline_or_an_export_gives_a_chart_or_an_error_at_little_cost() {
    let folder = TempDir::new().unwrap();
    let (log, path) = (folder.path().join("log"), folder.path().join("timeline.json"));
    program::run(&[0, 3, 1, 2, 9, 205, 2, 4], 1, &log);
    let mut exported = Vec::new();
    export(&[log], Format::Perfetto, &Options::default(), &mut exported).unwrap();
    let whole = [timeline(), exported];
    assert!(whole.iter().all(|bytes| read(&path, bytes)));
    let (cases, good) = fuzz(CASES, |mut choose| {
        let mut bytes = whole[choose.below(2)].clone();
        for _ in 0..=choose.below(3) {
            mutate(&mut choose, &mut bytes);
        }
        read(&path, &bytes)
    });
    // Otherwise it tells nothing.
    assert!(good > cases / 20 && cases - good > cases / 20);
}
