//! `slimpipe trace export`.

use std::process::Command;

use serde_json::Value;

use crate::support::Scene;

/// Lines of JSON, or one value.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn exported(scene: &Scene, run: &str, to: &str) -> String {
    scene.succeed(&format!("trace export {run} --to {to} --out {to}.out"));
    scene.text(&format!("{to}.out"))
}

fn summary(scene: &Scene, run: &str) -> Vec<Value> {
    json(&scene.succeed(&format!("trace summary {run} --json")))["logs"].as_array().unwrap().clone()
}

/// Reads a snapshot as Python does, and gives it back as JSON.
const LOAD: &str =
    "import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], 'rb')), sys.stdout)";

fn snapshot(scene: &Scene, run: &str, options: &str) -> Value {
    scene.succeed(&format!("trace export {run} --to memory-viz --out snapshot.pickle {options}"));
    let mut python = Command::new("python3");
    let told = python.args(["-c", LOAD]).arg(scene.path("snapshot.pickle")).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).unwrap()
}

/// The highest bytes, and those in the end, that entries of these actions come to.
fn sums(entries: &Value, more: &str, less: &str) -> (u64, u64) {
    let (mut now, mut peak) = (0, 0);
    for entry in entries.as_array().unwrap() {
        let size = entry["size"].as_u64().unwrap();
        match entry["action"].as_str().unwrap() {
            action if action == more => now += size,
            action if action == less => now -= size,
            _ => {}
        }
        peak = peak.max(now);
    }
    (peak, now)
}

#[test]
fn python_reads_a_snapshot_whose_totals_are_the_summarys() {
    let scene = Scene::new();
    scene.train("run", "memory.recompute=partial train.steps=2");
    scene.succeed("train --resume run --set train.steps=3");
    let snapshot = snapshot(&scene, "run", "");
    let summary = summary(&scene, "run");
    assert_eq!(snapshot["device_traces"].as_array().unwrap().len(), 2);
    for rank in 0..2 {
        let entries = &snapshot["device_traces"][rank];
        let (active, active_left) = sums(entries, "alloc", "free_completed");
        let (reserved, reserved_left) = sums(entries, "segment_map", "segment_unmap");
        let highest = |figure: &str| {
            let of_rank = summary.iter().filter(|log| log["rank"] == rank);
            of_rank.map(|log| log[figure].as_u64().unwrap()).max().unwrap()
        };
        assert_eq!((active, reserved), (highest("active_peak"), highest("reserved_peak")));
        let (mut total, mut live) = (0, 0);
        for segment in snapshot["segments"].as_array().unwrap() {
            if segment["device"] != rank {
                continue;
            }
            let mut at = segment["address"].as_u64().unwrap();
            let end = at + segment["total_size"].as_u64().unwrap();
            for block in segment["blocks"].as_array().unwrap() {
                assert_eq!(block["address"].as_u64(), Some(at));
                let size = block["size"].as_u64().unwrap();
                at += size;
                live += if block["state"] == "active_allocated" { size } else { 0 };
            }
            // What JavaScript can count to.
            assert!(at == end && end < 1 << 53);
            total += segment["total_size"].as_u64().unwrap();
        }
        assert_eq!((total, live), (reserved_left, active_left));
    }
    let entries = snapshot["device_traces"][1].as_array().unwrap();
    for (at, entry) in entries.iter().enumerate() {
        if entry["action"] == "free_requested" {
            assert_eq!(entries[at + 1]["action"], "free_completed");
            assert_eq!(entries[at + 1]["addr"], entry["addr"]);
        }
    }
    let named = |name: &str, category: &str| {
        entries.iter().any(|entry| {
            entry["frames"][0]["name"] == name
                && entry["category"] == category
                && entry["action"] == "alloc"
        })
    };
    assert!(
        named("mb0/slice3/chunk0/layer2/matmul", "slots")
            || named("mb0/slice3/chunk0/layer2/matmul", "transient")
    );
    assert!(entries.iter().any(|entry| entry["category"] == "unknown"));
    let file = entries.iter().filter_map(|entry| entry["frames"][0]["filename"].as_str());
    assert!(file.clone().count() > 0 && file.into_iter().any(|file| file.ends_with("block.rs")));
}

#[test]
fn csv_and_jsonl_hold_every_event_and_tell_the_same() {
    let scene = Scene::new();
    scene.train("run", "train.steps=2");
    let (table, lines) = (exported(&scene, "run", "csv"), exported(&scene, "run", "jsonl"));
    let mut rows = table.lines();
    let head: Vec<&str> = rows.next().unwrap().split(',').collect();
    let rows: Vec<&str> = rows.collect();
    let lines: Vec<Value> = lines.lines().map(json).collect();
    let counted: u64 =
        summary(&scene, "run").iter().map(|log| log["events"].as_u64().unwrap()).sum();
    assert_eq!((rows.len() as u64, lines.len() as u64), (counted, counted));
    for (row, line) in rows.iter().zip(&lines) {
        // Names of this run hold no commas.
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!(fields.len(), head.len(), "{row}");
        for (name, field) in head.iter().zip(fields) {
            let told = match &line[*name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(field, told, "{name} of {line}");
        }
        assert!(line.as_object().unwrap().keys().all(|key| head.contains(&&key[..])), "{line}");
        assert_ne!(line["event"], "other");
    }
}

/// A track's spans in order: begin and end in microseconds, and the name.
fn spans<'a>(events: &[&'a Value], tid: u64) -> Vec<(f64, f64, &'a str)> {
    let of_track = events.iter().filter(|event| event["ph"] == "X" && event["tid"] == tid);
    let mut spans: Vec<_> = of_track
        .map(|event| {
            let [begin, length] = ["ts", "dur"].map(|key| event[key].as_f64().unwrap());
            (begin, begin + length, event["name"].as_str().unwrap())
        })
        .collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    spans
}

#[test]
fn a_perfetto_trace_has_the_summarys_peaks_tracks_that_do_one_thing_at_a_time_and_arrows() {
    let scene = Scene::new();
    scene.train("run", "train.steps=2 parallel.vocabulary=false");
    let trace = json(&exported(&scene, "run", "perfetto"));
    let events = trace["traceEvents"].as_array().unwrap();
    let ends = |what: &str| -> Vec<&Value> { events.iter().filter(|e| e["ph"] == what).collect() };
    for log in summary(&scene, "run") {
        let rank = &log["rank"];
        let of_rank: Vec<&Value> = events.iter().filter(|event| &event["pid"] == rank).collect();
        let highest = |name: &str, region: &str| {
            let counter =
                of_rank.iter().filter(|event| event["ph"] == "C" && event["name"] == name);
            counter.filter_map(|event| event["args"][region].as_u64()).max()
        };
        assert_eq!(highest("active bytes", "all regions"), log["active_peak"].as_u64());
        assert_eq!(highest("reserved bytes", "all regions"), log["reserved_peak"].as_u64());
        assert_eq!(highest("units", "in flight"), log["in_flight_peak"].as_u64());
        for region in log["regions"].as_array().unwrap() {
            let found = highest("active bytes", region["region"].as_str().unwrap());
            assert_eq!(found.unwrap_or(0), region["active_peak"].as_u64().unwrap(), "{region}");
        }
        // Two steps of two microbatches of four slices, forward and backward; of the last one also what was
        // computed, and waited for.
        let [phases, compute, messages] = [0, 1, 2].map(|track| spans(&of_rank, track));
        assert_eq!((phases.len(), compute.len(), messages.len()), (32, 16, 16));
        for track in [&phases, &compute, &messages] {
            // Times are rounded to nanoseconds.
            assert!(track.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 0.002), "{track:?}");
        }
        // Both clocks tell the same: what a phase computes, it computes in the phase.
        for (begin, end, name) in compute {
            let around = phases.iter().filter(|phase| phase.2 == name);
            let around = around.min_by(|a, b| (a.0 - begin).abs().total_cmp(&(b.0 - begin).abs()));
            let phase = around.unwrap();
            let slack = 5000.0; // the clocks are read one after the other
            assert!(phase.0 <= begin + slack && end <= phase.1 + slack, "{name}: {phase:?}");
        }
    }
    let (sent, received) = (ends("s"), ends("f"));
    assert_eq!((sent.len(), received.len()), (16, 16));
    for (from, to) in sent.iter().zip(received) {
        assert_eq!(from["id"], to["id"]);
        assert_ne!(from["pid"], to["pid"]);
        assert!(from["ts"].as_f64() <= to["ts"].as_f64());
    }
}

#[test]
fn an_export_of_one_log_or_of_a_run_without_a_timeline_shows_what_there_is() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    let one = "run/memory.events/rank-0001.step-00000001.events";
    let trace = json(&exported(&scene, one, "perfetto"));
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().all(|event| event["pid"] == 1));
    assert!(events.iter().any(|event| event["ph"] == "X" && event["tid"] == 1));
    assert!(!events.iter().any(|event| event["ph"] == "s" || event["ph"] == "f"));

    std::fs::remove_file(scene.path("run/timeline.json")).unwrap();
    scene.succeed("trace export run --to perfetto --out phases.json");
    scene.succeed("trace view phases.json --out phases.html");
    assert!(
        scene.text("phases.html").contains("forwards and backwards, waits included: phases.json")
    );
    scene.refuse("trace view run phases.json", &["different pages"]);
    scene.write("run/timeline.json", "{}");
    scene.refuse(
        "trace export run --to perfetto --out t.json",
        &["run/timeline.json is no timeline"],
    );
}

#[test]
fn a_snapshot_with_few_entries_begins_with_what_was_live() {
    let scene = Scene::new();
    scene.train("run", "train.steps=2");
    scene.succeed("train --resume run --set train.steps=3");
    let whole = snapshot(&scene, "run", "");
    let all = whole["device_traces"][0].as_array().unwrap();
    let (active, reserved) = ("alloc", "segment_map");
    for most in [1, 2, 100, 101, all.len() / 2, all.len() - 1, all.len(), all.len() + 1] {
        let less = snapshot(&scene, "run", &format!("--entries {most}"));
        let few = less["device_traces"][0].as_array().unwrap();
        let told = all.len().saturating_sub(most);
        // A free is two entries: it is told whole or not at all.
        let same = few.iter().rev().zip(all.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(same + 1 >= most.min(all.len()), "{most}: {same}");
        if told == 0 {
            assert_eq!(few.len(), all.len());
        }
        let ends = |entries: &Value| {
            let left = |more, less| sums(entries, more, less).1;
            (left(active, "free_completed"), left(reserved, "segment_unmap"))
        };
        assert_eq!(ends(&less["device_traces"][0]), ends(&whole["device_traces"][0]), "{most}");
        assert_eq!(less["segments"], whole["segments"]);
    }
    for to in ["perfetto", "csv", "jsonl"] {
        let export = format!("trace export run --to {to} --entries 100 --out no.file");
        scene.refuse(&export, &["--entries is for --to memory-viz"]);
    }
    let out = scene.run("trace export run --to memory-viz --entries 100 --out few.pickle");
    assert!(out.err.contains("holds the last 100 (--entries)"), "{}", out.err);
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let scene = Scene::new();
    for (path, told) in [("none", "no such file"), ("tiny.toml", "not a memory event log")] {
        scene.refuse(&format!("trace export {path} --to csv --out t.csv"), &[path, told]);
    }
    scene.train("run", "train.steps=1");
    scene.refuse(
        "trace export run --to csv --out none/t.csv",
        &["cannot write none/t.csv: No such"],
    );
    let log = "run/memory.events/rank-0000.step-00000001.events";
    for (command, out, told) in [
        (format!("trace view {log}"), log, "what is read"),
        (format!("trace export {log} --to csv"), log, "what is read"),
        ("trace view run".to_owned(), "run/config.toml", "belongs to a run"),
        ("trace view run/timeline.json".to_owned(), log, "belongs to a run"),
        ("plan --model llama-7b --context 64K --gpus 8".to_owned(), "run/config.toml", "a run"),
    ] {
        scene.refuse(&format!("{command} --out {out}"), &[out, told, "name another file"]);
    }
    let drawn = "simulate --measured run/timeline.json --draw run/timeline.json";
    scene.refuse(drawn, &["run/timeline.json is what is read"]);
    let outcome = scene.run("trace export run --to svg --out t");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("memory-viz, perfetto, csv, jsonl"), "{}", outcome.err);
}
