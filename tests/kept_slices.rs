//! The mistake of `examples/kept_slices.rs` costs what `docs/memory-traces.md` says, and the logs name its line.

#[path = "../examples/kept_slices.rs"]
#[expect(dead_code, reason = "its main trains both models where its user is")]
mod kept_slices;

use std::path::Path;

use kept_slices::{Outcome, Probe, train};
use slimpipe::allocator::{Phase, UnitId};
use slimpipe::train::trace::{Block, Change, Playback, Summary, What, diff, logs};

/// What one slice's activations take in one layer: 128 rows of 256 numbers.
const HIDDEN: u64 = 128 * 256 * 4;
const SLICES: u64 = 8;
/// Layers of a rank.
const LAYERS: u64 = 2;

fn run(probe: &Probe, out: &Path) -> (Vec<Outcome>, Vec<Summary>) {
    let ranks = train(probe, out).unwrap();
    (ranks, logs(out).unwrap().iter().map(|log| Summary::of(log).unwrap()).collect())
}

/// Of each unit, the bytes of activations of the feed-forward part that its forward had made, and that were live
/// when its backward ended.
fn kept(log: &Path) -> Vec<u64> {
    let mut log = Playback::open(log).unwrap();
    let mut kept = Vec::new();
    while let Some(event) = log.next().unwrap() {
        let What::PhaseEnded(unit, Phase::Backward) = event.what else { continue };
        let blocks = log.memory().live().map(|held| held.block);
        let is_kept =
            |block: &Block| block.unit == Some(unit) && log.name(block.name).op() == "swiglu";
        kept.push(blocks.filter(is_kept).map(|block| block.bytes).sum());
    }
    kept
}

#[test]
fn a_row_that_is_kept_keeps_its_slice_and_the_logs_say_in_which_line() {
    let folder = tempfile::tempdir().unwrap();
    let [kept_run, mended_run] = ["kept", "mended"].map(|name| folder.path().join(name));
    let (with_rows, before) = run(&Probe::Keeps(Vec::new()), &kept_run);
    let (mended, after) = run(&Probe::Reads(Vec::new()), &mended_run);
    for (with_rows, mended) in with_rows.iter().zip(&mended) {
        assert_eq!((&with_rows.losses, &with_rows.largest), (&mended.losses, &mended.largest));
        assert!(mended.largest.iter().all(|largest| *largest > 0.0) && mended.largest.len() == 4);
        // More than all slices of one layer.
        assert!(with_rows.peak > mended.peak + SLICES * HIDDEN, "{with_rows:?} {mended:?}");
    }
    // Slices are alive after their backward, except those whose rows were let go of before; mended, none is.
    for log in logs(&kept_run).unwrap() {
        let kept = kept(&log);
        assert!(kept.iter().all(|bytes| [0, LAYERS * HIDDEN].contains(bytes)));
        assert!(kept.iter().sum::<u64>() >= SLICES * LAYERS * HIDDEN, "{kept:?}");
    }
    for log in logs(&mended_run).unwrap() {
        let kept = kept(&log);
        assert!(kept.len() == 32 && kept.iter().all(|bytes| *bytes == 0), "{kept:?}");
    }
    // In each of its layers, a rank held all slices of the sequence that it read last.
    let changes = diff(&before, &after).changes;
    let is_hidden = |change: &&Change| change.owner.op.as_deref() == Some("swiglu");
    let hidden: Vec<_> = changes.iter().filter(is_hidden).collect();
    assert_eq!(hidden.len(), 4);
    for change in hidden {
        assert_eq!((change.owner.region, change.after), (Some("slots"), 0));
        assert_eq!(change.before, SLICES * HIDDEN);
    }
    // The summary of the peak has the owners, a unit and a layer each, and the line that made it.
    let of = |all: &[Summary]| {
        let peaks = || all.iter().filter_map(|summary| summary.peak.as_ref());
        let owners = peaks().flat_map(|peak| &peak.owners).filter(|owner| owner.op == "swiglu");
        let named = |unit: UnitId, layer: Option<u32>| format!("{unit} {layer:?}");
        let owners = owners.filter_map(|owner| Some(named(owner.unit?, owner.layer)));
        let sites = peaks().flat_map(|peak| &peak.sites).filter(|site| site.op == "swiglu");
        let sites = sites.inspect(|site| assert!(site.file.ends_with("kept_slices.rs")));
        (owners.count() as u64, sites.map(|site| site.bytes).sum::<u64>())
    };
    let (owners, bytes) = of(&before);
    assert!(owners >= 2 * LAYERS * (SLICES - 1) && bytes >= owners * HIDDEN, "{owners} {bytes}");
    let (owners, bytes) = of(&after);
    assert!(owners <= 1 && bytes <= HIDDEN, "{owners} {bytes}");
    assert!(before.iter().chain(&after).all(|summary| summary.overflow_hits == 0));
}
