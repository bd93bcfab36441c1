//! The page of memory event logs, checked against the logs it was made of.

use std::path::Path;

use serde_json::Value;
use slimpipe_allocator::{Memory, Region, allocate};
use slimpipe_train::trace::view::{self, Traced};
use slimpipe_train::trace::{Playback, What};

/// Logs a memory in which blocks come and go.
fn write(path: &Path, rank: u32) {
    let memory = Memory::builder(rank).trace(path).unwrap().build();
    let _entered = memory.enter();
    let mut held = Vec::new();
    for at in 0..300u64 {
        held.push(allocate(64 + at * 37 % 5000, "matmul").unwrap());
        held.push(allocate(100, "</script><b>").unwrap());
        if at % 3 > 0 {
            held.swap_remove((at * 7) as usize % held.len());
        }
    }
    drop(held);
    let kept = allocate(640, "kept").unwrap();
    memory.flush().unwrap();
    drop(kept);
}

fn traced(path: &Path) -> Traced {
    let mut trace = Traced::new("a run".to_owned());
    trace.add(&mut Playback::open(path).unwrap()).unwrap();
    trace
}

fn page(traces: &[Traced]) -> String {
    let mut text = Vec::new();
    view::page(traces, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// What an element of the page holds.
fn element<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!(r#"id="{id}">"#)).unwrap();
    rest.split_once("</script>").unwrap().0
}

fn data(page: &str) -> Value {
    serde_json::from_str(element(page, "data")).unwrap()
}

/// The numbers that an element holds in base 64.
fn numbers(text: &str) -> Vec<u32> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} in base 64"),
    };
    let groups = text.trim_end_matches('=').as_bytes().chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 6 | u32::from(digit(*byte)));
        let bits = bits << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    });
    let bytes: Vec<u8> = groups.collect();
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// The columns of a rank's blocks, and of their owners.
fn columns(page: &str, rank: &Value) -> ([Vec<u32>; 5], [Vec<u32>; 6]) {
    let all = numbers(element(page, rank["data"].as_str().unwrap()));
    let [blocks, kinds] = ["blocks", "kinds"].map(|count| rank[count].as_u64().unwrap() as usize);
    assert_eq!(all.len(), 5 * blocks + 6 * kinds);
    let (of_blocks, of_owners) = all.split_at(5 * blocks);
    let column = |all: &[u32], count: usize, at: usize| all[at * count..(at + 1) * count].to_vec();
    (
        std::array::from_fn(|at| column(of_blocks, blocks, at)),
        std::array::from_fn(|at| column(of_owners, kinds, at)),
    )
}

#[test]
fn the_page_holds_every_block_where_and_when_it_lived_and_none_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rank.events");
    write(&path, 3);
    let page = page(&[traced(&path)]);
    let data = data(&page);
    let rank = &data["runs"][0]["ranks"][0];
    assert_eq!((&rank["rank"], &rank["line"]), (&3.into(), &64.into()));
    let ([begins, ends, places, sizes, owners], [regions, .., names]) = columns(&page, rank);

    let mut log = Playback::open(&path).unwrap();
    let (mut highest, mut peaked) = (0, 0);
    let (mut at, tick) = (0, (rank["tick"].as_f64().unwrap() * 1e9).round() as u64);
    let base = rank["bases"][Region::Overflow.index()].as_u64().unwrap();
    while let Some(event) = log.next().unwrap() {
        if log.memory().active().current > highest {
            (highest, peaked) = (log.memory().active().current, event.time);
        }
        let What::Alloc(block) = event.what else { continue };
        assert_eq!(u64::from(begins[at]), event.time / tick);
        assert_eq!(u64::from(places[at]), base + block.offset / 64);
        assert_eq!(u64::from(sizes[at]) * 64, block.bytes);
        let owner = owners[at] as usize;
        assert_eq!(regions[owner] as usize, block.region.index());
        let name = &rank["names"][names[owner] as usize];
        assert_eq!(name[0], log.name(block.name).op());
        assert_eq!(name[1], log.name(block.name).site());
        at += 1;
    }
    assert_eq!(at, begins.len());
    assert_eq!(rank["peak"].as_u64(), Some(log.memory().active().peak));
    assert_eq!(rank["peaked"].as_u64(), Some(peaked / tick));
    assert!(at > 600);
    for a in 0..at {
        assert!(begins[a] <= ends[a]);
        for b in 0..a {
            let in_time = begins[a].max(begins[b]) < ends[a].min(ends[b]);
            let in_place =
                places[a].max(places[b]) < (places[a] + sizes[a]).min(places[b] + sizes[b]);
            assert!(!(in_time && in_place), "{a} and {b}");
        }
    }
    // What is still live ends with the log.
    assert_eq!(u64::from(ends[at - 1]), rank["end"].as_u64().unwrap());
}

#[test]
fn a_page_asks_nothing_of_the_network_and_no_name_ends_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rank.events");
    write(&path, 0);
    let text = page(&[traced(&path), traced(&path)]);
    for from_elsewhere in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!text.contains(from_elsewhere), "{from_elsewhere}");
    }
    // The data, the script, and of each run its blocks and its units.
    assert_eq!(text.matches("</script>").count(), 2 + 2 * 2);
    assert_eq!(data(&text)["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_resumed_run_has_both_logs_of_a_rank_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("1.events"), dir.path().join("2.events"));
    write(&first, 1);
    write(&second, 1);
    let mut trace = traced(&first);
    trace.add(&mut Playback::open(&second).unwrap()).unwrap();
    let page = page(&[trace]);
    let data = data(&page);
    let ranks = data["runs"][0]["ranks"].as_array().unwrap();
    assert_eq!(ranks.len(), 1);
    let ([begins, ..], _) = columns(&page, &ranks[0]);
    assert_eq!(begins.len() % 2, 0);
    assert!(begins.is_sorted());
}

#[test]
fn a_pause_of_days_costs_no_precision_and_is_told_beside_what_a_page_shows_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("1.events"), dir.path().join("2.events"));
    write(&first, 1);
    let mut log = std::fs::read(&first).unwrap();
    // When the log began.
    let began = u64::from_le_bytes(log[16..24].try_into().unwrap());
    let pause = 3 * 24 * 3600 * 1_000_000_000;
    log[16..24].copy_from_slice(&(began + pause).to_le_bytes());
    std::fs::write(&second, log).unwrap();

    let alone = data(&page(&[traced(&first)]));
    assert_eq!(alone["pauses"], serde_json::json!([]));
    let mut trace = traced(&first);
    trace.add(&mut Playback::open(&second).unwrap()).unwrap();
    let page = page(&[trace]);
    let data = data(&page);
    let rank = &data["runs"][0]["ranks"][0];
    let seconds = |value: &Value| value.as_f64().unwrap();
    let (tick, end) = (seconds(&rank["tick"]), seconds(&alone["runs"][0]["ranks"][0]["end"]));
    assert_eq!(rank["tick"], alone["runs"][0]["ranks"][0]["tick"]);
    assert!(seconds(&rank["end"]) < 2.1 * end);
    // What the page leaves out and what it shows are what the second log began after the first.
    let gap = &data["pauses"][0];
    let hidden = seconds(&gap["lasted"]) - seconds(&gap["shown"]);
    let ([begins, ..], _) = columns(&page, rank);
    let half = begins.len() / 2;
    for at in 0..half {
        let apart = (f64::from(begins[half + at]) - f64::from(begins[at])) * tick + hidden;
        assert!((apart - pause as f64 * 1e-9).abs() < 1e-6, "{at}: {apart}");
    }
    assert_eq!(data["pauses"].as_array().unwrap().len(), 1);
}
