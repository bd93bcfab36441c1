//! `slimpipe trace`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use slimpipe::allocator::Bytes;
use slimpipe::train::trace::summary::{Owner, kind};
use slimpipe::train::trace::{Summary, logs};

use crate::support::Scene;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Holds each rank's summary of a run against what its allocator counted in every step.
pub fn check_peaks(scene: &Scene, run: &str) {
    let (summaries, metrics) = (summaries(scene, run), scene.metrics(run));
    for summary in &summaries {
        assert_eq!(summary.steps.len(), metrics.len());
        for (step, told) in summary.steps.iter().zip(&metrics) {
            let counted = &told.ranks[summary.rank as usize];
            assert_eq!(step.step, told.step);
            assert_eq!(step.active_peak, counted.active_peak_bytes, "{run} {step:?}");
            assert_eq!(step.activation_peak, counted.activation_peak_bytes, "{run}");
            assert_eq!(step.reserved_peak, counted.reserved_peak_bytes, "{run}");
            assert_eq!(step.in_flight_peak, counted.in_flight_peak);
            assert_eq!(step.overflow_hits, counted.overflow_hits);
        }
        let peak = summary.peak.as_ref().unwrap();
        assert_eq!(peak.active, summary.active_peak);
        assert!(summary.own_peak <= summary.active_peak);
        assert_eq!(peak.owners.iter().map(|owner| owner.bytes).sum::<u64>(), peak.active);
        assert_eq!(peak.sites.iter().map(|site| site.bytes).sum::<u64>(), peak.active);
        assert!(summary.plans.iter().any(|plan| plan.held > 0));
        assert!(summary.plans.iter().all(|plan| plan.held <= plan.planned), "{summary:#?}");
    }
    assert_eq!(summaries.len(), metrics[0].ranks.len());
}

/// Each rank's summary of a run.
fn summaries(scene: &Scene, run: &str) -> Vec<Summary> {
    logs(&scene.path(run)).unwrap().iter().map(|log| Summary::of(log).unwrap()).collect()
}

#[test]
fn a_summary_has_the_peaks_of_every_step_as_the_allocator_counted_them() {
    let scene = Scene::new();
    let variants = [
        "",
        "memory.offload=0.5 memory.recompute=partial",
        "parallel.pipeline=4 parallel.exchange=balanced train.microbatches=3",
        "parallel.schedule=zb-h1 parallel.slices=1 train.microbatches=4",
        "parallel.vocabulary=true train.dtype=bf16",
    ];
    for (number, settings) in variants.into_iter().enumerate() {
        let run = format!("run{number}");
        scene.train(&run, settings);
        check_peaks(&scene, &run);
    }
}

#[test]
fn a_summary_names_units_layers_operations_and_call_sites() {
    let scene = Scene::new();
    scene.train("run", "");
    let text = scene.succeed("trace summary run");
    for expected in [
        "rank     steps",
        "most of all (--rank N shows another): in step ",
        "slots",
        "fragmentation: ",
        "mb0/slice0/chunk0",
        "layer 1",
        "matmul",
        "outside units",
        "in which layers, of ",
        "train/src/model/block.rs:",
        "slots, chunk 0, slice 0 on",
        "100.0 %",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    // The same by the folder of logs, by a log, and by rank.
    assert_eq!(scene.succeed("trace summary run/memory.events"), text);
    let one = scene.succeed("trace summary run/memory.events/rank-0001.step-00000001.events");
    let other = scene.succeed("trace summary run --rank 1");
    assert!(one.contains("rank 1 held") && one == other, "{one}\n{other}");
    let few = scene.succeed("trace summary run --top 2");
    assert!(few.lines().count() < text.lines().count());
    for table in ["who held it, of ", "which code made it, of ", "in which units, of "] {
        let rows = few.split(table).nth(1).unwrap().lines().skip(1);
        assert_eq!(rows.take_while(|line| !line.is_empty()).count(), 2, "{table}{few}");
    }
    check_holders(&scene);
    let all = json(&scene.succeed("trace summary run --json"));
    let [first, second] = [0, 1].map(|rank| all["logs"][rank].clone());
    assert_eq!((&first["rank"], &second["rank"]), (&0.into(), &1.into()));
    assert_eq!(first["active_peak"], first["peak"]["active"]);
    let owners = first["peak"]["owners"].as_array().unwrap();
    assert!(owners.len() > 10);
    // Whatever is kept for a parameter has its name.
    for what in ["parameter", "gradient", "adam m", "adam v"] {
        let name = format!("{what} model.layers.0.mlp.gate_proj.weight");
        assert!(owners.iter().any(|owner| owner["op"] == name[..]), "{name}");
    }
}

/// The table of owners is that of the peak, with all units of a region, layer and operation in one row.
fn check_holders(scene: &Scene) {
    let text = scene.succeed("trace summary run --rank 0 --top 999");
    let peak = summaries(scene, "run").remove(0).peak.unwrap();
    let rows = text.split("who held it, of ").nth(1).unwrap().lines().skip(1);
    let rows: Vec<_> = rows.take_while(|line| !line.is_empty()).collect();
    let is_product =
        |owner: &&Owner| (owner.region, owner.layer, &owner.op[..]) == ("slots", Some(0), "matmul");
    let products: Vec<_> = peak.owners.iter().filter(is_product).collect();
    let bytes: u64 = products.iter().map(|owner| owner.bytes).sum();
    let units = match products.len() {
        1 => "1 unit".to_owned(),
        more => format!("{more} units: "),
    };
    let row = rows.iter().filter(|row| row.contains(" slots ") && row.contains(" layer 0 "));
    let row: Vec<_> = row.filter(|row| row.contains(" matmul ")).collect();
    let told = format!(" {}  ", Bytes(bytes));
    assert!(row.len() == 1 && row[0].contains(&told) && row[0].contains(&units), "{text}");
    // No unit, region and layer has two rows of one operation.
    let whole = peak.owners.iter().map(|owner| (owner.region, owner.layer, kind(&owner.op)));
    assert_eq!(rows.len(), whole.collect::<BTreeSet<_>>().len());
}

#[test]
fn a_summary_says_that_ranks_end_in_different_steps() {
    let scene = Scene::new();
    scene.train("run", "");
    let uneven = "the logs end in different steps";
    assert!(!scene.succeed("trace summary run").contains(uneven));
    assert_eq!(json(&scene.succeed("trace summary run --json"))["warnings"], serde_json::json!([]));
    let log = "run/memory.events/rank-0001.step-00000001.events";
    let whole = scene.read(log);
    scene.write(log, &whole[..whole.len() / 2]);
    let ends: Vec<_> = summaries(&scene, "run").iter().map(|s| s.step_range().unwrap().1).collect();
    assert!(ends[1] < ends[0]);
    let line =
        format!("{uneven} (rank 1 in {}, rank 0 in {}): the run was killed", ends[1], ends[0]);
    assert!(scene.succeed("trace summary run").contains(&line));
    let told = json(&scene.succeed("trace summary run --json"));
    assert!(told["warnings"][0].as_str().unwrap().starts_with(&line));
}

#[test]
fn a_log_that_cannot_be_read_is_left_out_and_named_and_the_others_are_shown() {
    let scene = Scene::new();
    scene.train("run", "");
    scene.train("good", "");
    let log = "run/memory.events/rank-0001.step-00000001.events";
    let mut damaged = scene.read(log);
    let at = damaged.len() - 24;
    damaged[at] = 99;
    let broken =
        [(Vec::new(), "byte 0: "), (b"foreign".repeat(9), "byte 0: "), (damaged, "kind 99")];
    for (bytes, what) in broken {
        scene.write(log, bytes);
        for words in [
            "trace summary run",
            "trace summary run --json",
            "trace view run --out page.html",
            "trace export run --to csv --out table.csv",
            "trace export run --to memory-viz --out snapshot.pickle",
            "trace export run --to perfetto --out trace.json",
        ] {
            let outcome = scene.run(words);
            assert_eq!(outcome.code, Some(0), "{words}: {}", outcome.err);
            assert_eq!(outcome.err.lines().count(), 1, "{words}: {}", outcome.err);
            let warning = format!("warning: left out {log}: ");
            assert!(
                outcome.err.starts_with(&warning) && outcome.err.contains(what),
                "{}",
                outcome.err
            );
        }
        let told = json(&scene.run("trace summary run --json").out);
        assert_eq!(told["logs"].as_array().unwrap().len(), 1);
        assert!(told["warnings"][0].as_str().unwrap().contains(log));
        let lines = scene.text("table.csv");
        assert!(
            lines.lines().count() > 9 && lines.lines().skip(1).all(|line| line.starts_with("0,"))
        );
        scene.refuse(&format!("trace summary {log}"), &[log, what]);
    }
    scene.write("run/memory.events/rank-0000.step-00000001.events", b"");
    scene.refuse("trace summary run", &["rank-0000.step-00000001.events: byte 0: "]);
    scene.refuse("trace export run --to csv --out none.csv", &["not a memory event log"]);
}

#[test]
fn a_resumed_run_has_a_summary_for_each_part() {
    let scene = Scene::new();
    scene.train("run", "train.steps=2");
    scene.succeed("train --resume run --set train.steps=5");
    let ranges: Vec<_> =
        summaries(&scene, "run").iter().map(|s| (s.rank, s.step_range())).collect();
    let expected = [(0, Some((1, 2))), (0, Some((3, 5))), (1, Some((1, 2))), (1, Some((3, 5)))];
    assert_eq!(ranges, expected);
}

#[test]
fn a_log_that_was_cut_is_summed_up_to_the_cut() {
    let scene = Scene::new();
    scene.train("run", "");
    let log = "run/memory.events/rank-0000.step-00000001.events";
    let whole = scene.read(log);
    let cut = whole.len() / 2 / 24 * 24 + 7;
    scene.write("cut.events", &whole[..cut]);
    let text = scene.succeed("trace summary cut.events");
    assert!(text.contains("cut.events ends within a record, at byte "), "{text}");
    let at = json(&scene.succeed("trace summary cut.events --json"))["logs"][0]["cut_at"].as_u64();
    assert!(at.unwrap() <= cut as u64);
}

#[test]
fn what_is_no_trace_is_refused_with_the_byte_or_the_remedy() {
    let scene = Scene::new();
    fs::create_dir(scene.path("empty")).unwrap();
    scene.train("run", "");
    let log = "run/memory.events/rank-0000.step-00000001.events";
    let mut damaged = scene.read(log);
    let at = damaged.len() - 24;
    damaged[at] = 99;
    scene.write("damaged.events", &damaged);
    damaged[7] = b'7';
    scene.write("future.events", &damaged);
    let byte = format!("damaged.events: byte {at}: there is no record of kind 99");
    for (path, expected) in [
        ("nowhere", &["nowhere: there is no such file or folder", "name the folder of a run"][..]),
        ("empty", &["it holds no memory event logs", "memory.trace"]),
        ("tiny.toml", &["tiny.toml: byte 0: not a memory event log"]),
        ("future.events", &["byte 7: the log is of version 7", "reads version 2"]),
        ("damaged.events", &[&byte[..]]),
    ] {
        scene.refuse(&format!("trace summary {path}"), expected);
        scene.refuse(&format!("trace diff run {path}"), expected);
    }
    scene.refuse("trace summary run --rank 9", &["--rank 9", "it has ranks 0, 1"]);
}

#[test]
fn a_diff_tells_owners_that_changed_by_its_exit_code() {
    let scene = Scene::new();
    scene.train("same", "");
    scene.train("again", "");
    let outcome = scene.run("trace diff same again --threshold 0");
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.out, outcome.err);
    assert!(outcome.out.contains("nothing changed by more than 0 %"), "{}", outcome.out);

    scene.train("less", "memory.recompute=full");
    let outcome = scene.run("trace diff same less");
    assert_eq!((outcome.code, &outcome.err[..]), (Some(1), ""));
    for expected in
        ["total (without messages) ", "changes of more than 1 %", "slots, layer 0, ", " -"]
    {
        assert!(outcome.out.contains(expected), "no {expected:?} in: {}", outcome.out);
    }
    // Totals stand above what they are made of.
    let rows: Vec<_> = outcome.out.lines().skip(1).filter(|line| line.starts_with("  ")).collect();
    let is_total = |row: &&&str| row.starts_with("  total ");
    let totals = rows.iter().filter(is_total).count();
    assert!(totals > 0 && rows.iter().take(totals).all(|row| is_total(&row)), "{}", outcome.out);
    // All that forwards save together is no more than the whole.
    assert_eq!(scene.run("trace diff same less --threshold 100").code, Some(0));
    let told = scene.run("trace diff same less --json");
    assert_eq!(told.code, Some(1));
    let told = json(&told.out);
    assert_eq!(told["changed"], true);
    let [before, after] = ["same", "less"].map(|run| summaries(&scene, run)[0].own_peak);
    let changes = told["changes"].as_array().unwrap();
    let whole = changes.iter().find(|change| change["rank"] == 0 && change["region"].is_null());
    let whole = whole.unwrap();
    assert_eq!((whole["before"].as_u64(), whole["after"].as_u64()), (Some(before), Some(after)));
}

#[test]
fn a_diff_compares_ranks_that_both_runs_have_and_names_the_others() {
    let scene = Scene::new();
    scene.train("two", "train.steps=1");
    let log = "two/memory.events/rank-0001.step-00000001.events";
    scene.write("one.events", scene.read("two/memory.events/rank-0000.step-00000001.events"));
    for (words, line, keys) in [
        ("trace diff two one.events", "rank 1 is only in two\n", ["only_before", "only_after"]),
        ("trace diff one.events two", "rank 1 is only in two\n", ["only_after", "only_before"]),
    ] {
        let outcome = scene.run(words);
        assert_eq!((outcome.code, &outcome.err[..]), (Some(1), ""), "{}", outcome.out);
        assert!(outcome.out.starts_with(line), "{}", outcome.out);
        let told = json(&scene.run(&format!("{words} --json")).out);
        assert_eq!((&told[keys[0]], &told[keys[1]]), (&json("[1]"), &json("[]")));
        assert_eq!((&told["changes"], &told["changed"]), (&json("[]"), &true.into()));
    }
    let both = ["no rank to compare", "one.events has rank 0", "events has rank 1"];
    scene.refuse(&format!("trace diff one.events {log}"), &both);
    scene.write(log, b"");
    let outcome = scene.run("trace diff one.events two");
    assert_eq!(outcome.code, Some(0), "{}", outcome.out);
    assert!(outcome.err.starts_with(&format!("warning: left out {log}: byte 0: ")));
}

#[test]
fn a_runs_memory_is_shown_as_one_page_and_two_runs_beside_each_other() {
    let scene = Scene::new();
    scene.train("a", "train.steps=1");
    scene.train("b", "train.steps=1");
    scene.succeed("trace view a --out one.html");
    scene.succeed("trace view a b/memory.events --out two.html");
    let [one, two] = ["one.html", "two.html"].map(|name| scene.text(name));
    assert!(one.contains(r#""name":"a""#) && !one.contains(r#""name":"b"#));
    assert!(two.contains(r#""name":"a""#) && two.contains(r#""name":"b/memory.events""#));
}

#[test]
fn what_holds_no_log_is_refused() {
    let scene = Scene::new();
    for (path, told) in [("none", "no such file"), ("tiny.toml", "not a memory event log")] {
        scene.refuse(&format!("trace view {path}"), &[path, told]);
    }
    scene.refuse("trace view a b c", &["one run, or of 2", "3 were given"]);
}
