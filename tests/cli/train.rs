//! `slimpipe train`: what a run prints and writes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use slimpipe::allocator::events;
use slimpipe::pipeline::schedule::{Schedule, ScheduleKind, parse, verify_programs};

use crate::support::{Scene, files};

/// (p, n, m, v).
type Size = (u32, u32, u32, u32);

fn settings((p, n, m, v): Size) -> String {
    format!(
        "parallel.pipeline={p} parallel.slices={n} train.microbatches={m} parallel.chunks={v} train.steps=2"
    )
}

#[test]
fn a_run_prints_its_progress_its_memory_and_the_names_of_its_files() {
    let scene = Scene::new();
    let words = "train --config tiny.toml --out run";
    let outcome = scene.run(words);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let steps = scene.metrics("run");
    let lines: Vec<&str> = outcome.err.lines().collect();
    assert_eq!(lines.len(), 4, "{}", outcome.err);
    for (line, step) in lines.iter().zip(&steps) {
        let told = format!(
            "{:>4}/4  loss {:.4}  {:.0} tok/s",
            step.step, step.loss, step.tokens_per_second
        );
        assert!(line.contains(&told), "{line}");
        assert!(["MFU", "bubble", "peak"].iter().all(|word| line.contains(word)), "{line}");
    }
    let out = outcome.out;
    assert!(out.starts_with("18 K parameters, slimpipe on 2 ranks: 4 slices of 8 tokens"), "{out}");
    assert!(out.contains(&format!("step 4: loss {:.4}", steps[3].loss)), "{out}");
    // In flight: n + 2 (p - 1 - r), of m n units.
    for (rank, in_flight) in [(0, 6), (1, 4)] {
        let row =
            out.lines().find(|line| line.trim_start().starts_with(&format!("{rank} "))).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[1..3], [in_flight.to_string(), in_flight.to_string()], "{row}");
        assert_eq!(cells.last(), Some(&"0"), "{row}");
    }
    for name in [
        "metrics.jsonl",
        "events.out.tfevents.slimpipe",
        "schedule.txt",
        "timeline.json",
        "memory.events",
        "model",
        "checkpoint",
    ] {
        let name = format!("run/{name}");
        assert!(out.contains(&name) && scene.exists(&name), "{name} in: {out}");
    }
    assert!(!files(&scene.path("run")).iter().any(|name| name.contains("partial")));
}

#[test]
fn metrics_are_an_object_per_step_with_the_documented_keys() {
    let scene = Scene::new();
    scene.train("run", &settings((2, 4, 2, 2)));
    let text = scene.text("run/metrics.jsonl");
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let named = |names: &str| -> BTreeSet<String> { names.split(' ').map(str::to_owned).collect() };
    for (index, line) in text.lines().enumerate() {
        let step: Value = serde_json::from_str(line).unwrap();
        let expected =
            "step loss grad_norm lr tokens_per_second mfu mfu_noncausal bubble_fraction ranks";
        assert_eq!(keys(&step), named(expected));
        assert_eq!(step["step"], index as u64 + 1);
        for (number, rank) in step["ranks"].as_array().unwrap().iter().enumerate() {
            let expected = "rank in_flight_peak active_peak_bytes activation_peak_bytes reserved_peak_bytes overflow_hits";
            assert_eq!(keys(rank), named(expected));
            assert_eq!(rank["rank"], number);
            assert_eq!(rank["overflow_hits"], 0);
        }
        assert_eq!(step["ranks"].as_array().unwrap().len(), 2);
        let [causal, other] = ["mfu", "mfu_noncausal"].map(|key| step[key].as_f64().unwrap());
        assert!(0.0 < causal && causal < other, "{line}");
        assert!((0.0..1.0).contains(&step["bubble_fraction"].as_f64().unwrap()), "{line}");
    }
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn the_learning_rate_warms_up_and_falls() {
    let scene = Scene::new();
    scene.train("run", "train.lr=0.01 train.min_lr=0.001 train.warmup_steps=2 train.steps=4");
    let rates: Vec<f64> = scene.metrics("run").iter().map(|step| step.lr).collect();
    for (rate, expected) in rates.iter().zip([0.005, 0.01, 0.0055, 0.001]) {
        assert!((rate - expected).abs() < 1e-12, "{rates:?}");
    }
}

#[test]
fn the_schedule_is_written_as_it_was_run() {
    let scene = Scene::new();
    for (kind, size) in [
        (ScheduleKind::SlimPipe, (1, 1, 1, 1)),
        (ScheduleKind::SlimPipe, (4, 8, 2, 1)),
        (ScheduleKind::SlimPipe, (2, 4, 1, 2)),
        (ScheduleKind::GPipe, (2, 1, 3, 1)),
        (ScheduleKind::OneFOneB, (4, 1, 2, 1)),
        (ScheduleKind::Interleaved, (2, 1, 2, 2)),
        (ScheduleKind::TeraPipe, (2, 4, 2, 1)),
        (ScheduleKind::Seq1F1B, (4, 4, 2, 1)),
        (ScheduleKind::Seq1F1BBalanced, (4, 5, 2, 1)),
        (ScheduleKind::ZbH1, (4, 1, 6, 1)),
    ] {
        let run = format!("{kind}-{size:?}").replace(' ', "");
        scene.train(&run, &format!("{} parallel.schedule={kind}", settings(size)));
        let programs = parse(&scene.text(&format!("{run}/schedule.txt"))).unwrap();
        let (p, n, m, v) = size;
        let schedule = Schedule::new(kind, p, n, m, v).unwrap();
        // The vocabulary is large beside the tiny model.
        let shared = p > 1 && schedule.lock_step().is_some();
        let schedule = schedule.with_vocabulary(shared).unwrap();
        let report = verify_programs(&schedule, programs, schedule.channel_capacity()).unwrap();
        for step in scene.metrics(&run) {
            let peaks: Vec<u64> = step.ranks.iter().map(|rank| rank.in_flight_peak).collect();
            assert_eq!(peaks, report.in_flight_peak, "{run}");
        }
    }
}

/// A complete event of a trace: track, start and duration in microseconds, name.
type Slice = (u64, f64, f64, String);

fn slices(trace: &Value) -> Vec<Slice> {
    let events = trace["traceEvents"].as_array().unwrap().iter();
    let mut slices: Vec<Slice> = events
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            let number = |key: &str| event[key].as_f64().unwrap();
            let name = event["name"].as_str().unwrap().to_owned();
            (event["tid"].as_u64().unwrap(), number("ts"), number("dur"), name)
        })
        .collect();
    slices.sort_by(|a, b| (a.0, a.1).partial_cmp(&(b.0, b.1)).unwrap());
    slices
}

#[test]
fn the_timeline_shows_every_unit_on_every_rank_and_no_two_at_once() {
    let scene = Scene::new();
    let size @ (p, n, m, v) = (2, 4, 2, 2);
    scene.train("run", &format!("{} parallel.vocabulary=false", settings(size)));
    let trace: Value = serde_json::from_str(&scene.text("run/timeline.json")).unwrap();
    let mut names = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        assert_eq!(event["pid"], 0);
        if event["ph"] == "M" && event["name"] == "thread_name" {
            names.insert(event["tid"].as_u64().unwrap(), event["args"]["name"].as_str().unwrap());
        }
    }
    let slices = slices(&trace);
    for (a, b) in slices.iter().zip(&slices[1..]) {
        assert!(a.2 >= 0.0 && (a.0 != b.0 || a.1 + a.2 <= b.1 + 1e-3), "{a:?} and {b:?}");
    }
    for rank in 0..p {
        let compute = format!("rank {rank} compute");
        let mut found: Vec<&str> = slices
            .iter()
            .filter(|(track, ..)| names[track] == compute)
            .map(|(.., name)| name.as_str())
            .collect();
        let mut expected = Vec::new();
        for (mb, slice, chunk) in (0..m).flat_map(|mb| {
            (0..n).flat_map(move |slice| (0..v).map(move |chunk| (mb, slice, chunk)))
        }) {
            let chunk = if chunk == 0 { String::new() } else { format!(" c{chunk}") };
            expected.extend(["F", "B"].map(|what| format!("{what} mb{mb} s{slice}{chunk}")));
        }
        expected.sort();
        found.sort_unstable();
        assert_eq!(found, expected, "rank {rank}");
    }
    // The bubble of the last step is that of the timeline.
    let computing = |slice: &&Slice| names[&slice.0].ends_with("compute");
    let busy: f64 = slices.iter().filter(computing).map(|slice| slice.2).sum();
    let start = slices.iter().map(|slice| slice.1).fold(f64::INFINITY, f64::min);
    let end = slices.iter().map(|slice| slice.1 + slice.2).fold(0.0, f64::max);
    let bubble = 1.0 - busy / (f64::from(p) * (end - start));
    let told = scene.metrics("run").last().unwrap().bubble_fraction;
    assert!((bubble - told).abs() < 1e-3, "{bubble} drawn, {told} told");
}

#[test]
fn memory_events_are_a_log_per_rank_that_ends_where_the_metrics_say() {
    let scene = Scene::new();
    scene.train("run", &settings((2, 4, 2, 1)));
    for rank in 0..2u32 {
        let bytes = scene.read(&format!("run/memory.events/rank-{rank:04}.step-00000001.events"));
        let log = events::Log::read(&bytes[..]).unwrap();
        assert_eq!((log.rank, log.truncated), (rank, false));
        let count =
            |what: fn(&events::What) -> bool| log.events.iter().filter(|e| what(&e.what)).count();
        // n m units in each of two steps.
        assert_eq!(count(|what| matches!(what, events::What::UnitOpened(_))), 16);
        assert_eq!(count(|what| matches!(what, events::What::UnitClosed(_))), 16);
    }
    scene.train("quiet", "train.steps=1 memory.trace=false");
    assert!(!scene.exists("quiet/memory.events"));
}

#[test]
fn losses_fall_on_text_that_repeats_itself() {
    let scene = Scene::new();
    for (run, settings) in [
        ("f32", ""),
        ("bf16", "train.dtype=bf16"),
        ("tied", "model.tie_word_embeddings=true"),
        ("whole", "parallel.pipeline=1 parallel.slices=1"),
    ] {
        scene.train(run, &format!("train.steps=60 train.lr=0.01 {settings}"));
        let steps = scene.metrics(run);
        let first = steps[0].loss;
        assert!((first - 256f64.ln()).abs() < 0.2, "{run}: {first}");
        let last = steps.last().unwrap().loss;
        assert!(last < 0.5 * first, "{run}: {first} to {last}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let scene = Scene::new();
    let losses = |run: &str, settings: &str| -> Vec<u64> {
        scene.train(run, settings);
        scene.metrics(run).iter().map(|step| step.loss.to_bits()).collect()
    };
    let first = losses("first", "");
    assert_eq!(losses("second", ""), first);
    assert_eq!(losses("threads", "parallel.threads=3"), first);
    assert_ne!(losses("other", "train.seed=1"), first);
}
