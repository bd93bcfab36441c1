//! `slimpipe simulate`.

use serde_json::Value;

use crate::support::Scene;

#[test]
fn a_simulated_schedule_has_the_makespan_and_the_units_in_flight_of_the_reference() {
    let out = Scene::new().succeed(
        "simulate --schedule slimpipe -p 8 -n 32 -m 4 -v 5 --forward 1 --backward 2 --json",
    );
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["makespan"], &found["work_per_rank"]), (&1941.0.into(), &1920.0.into()));
    assert!((found["bubble_over_work"].as_f64().unwrap() - 7.0 / 640.0).abs() < 1e-12);
    let peaks: Vec<u64> = (0..8).map(|rank| 174 - 2 * rank).collect();
    assert_eq!(found["in_flight_peak"], Value::from(peaks));
}

#[test]
fn orders_are_printed_in_the_notation_of_the_reference() {
    let out = Scene::new().succeed("simulate -p 2 -n 2 -m 2 --order");
    let expected = "rank 0: F0.0 F0.1 F1.0 F1.1 B0.1 B0.0 B1.1 B1.0\n\
                    rank 1: F0.0 F0.1 B0.1 F1.0 B0.0 F1.1 B1.1 B1.0\n";
    assert_eq!(out, expected);
}

#[test]
fn sharing_attention_shrinks_the_bubble_with_and_without_waits() {
    let scene = Scene::new();
    let bubble = |more: &str| -> f64 {
        let units = "simulate -p 4 -n 8 -m 2 -v 2 --forward 4 --backward 8 --attention 1";
        let found: Value =
            serde_json::from_str(&scene.succeed(&format!("{units} --json {more}"))).unwrap();
        found["bubble_over_work"].as_f64().unwrap()
    };
    let (off, waiting) = (bubble(""), bubble("--exchange paper --layers 3"));
    let [paper, balanced] =
        ["paper", "balanced"].map(|how| bubble(&format!("--exchange {how} --layers 0")));
    assert!(
        balanced < paper && paper < waiting && waiting < off,
        "{balanced} {paper} {waiting} {off}"
    );
}

#[test]
fn schedules_are_drawn_beside_each_other_and_beside_a_measured_run() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    let out = scene.succeed(
        "simulate --measured run/timeline.json --against 1f1b,zb-h1 --draw all.html --gantt",
    );
    for told in ["slimpipe p=2 n=4 m=2 v=1", "1f1b p=2 n=1 m=2 v=1", "measured: run", "all.html"] {
        assert!(out.contains(told), "{told}: {out}");
    }
    let page = scene.text("all.html");
    assert!(["slimpipe p=2", "1f1b p=2", "zb-h1 p=2", "measured"].iter().all(|t| page.contains(t)));
    scene.succeed("simulate -p 2 -n 2 --draw trace.json --json");
    let trace: Value = serde_json::from_slice(&scene.read("trace.json")).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 8);
}

#[test]
fn a_runs_own_figures_stand_below_what_was_expected() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    let out = scene.succeed("simulate --measured run");
    let (expected, measured) = out.split_once("\nmeasured: run/timeline.json\n").unwrap();
    for part in [expected, measured] {
        for told in ["makespan  ", "ms\n", "bubble  ", " % of the step", "units in flight"] {
            assert!(part.contains(told), "{told}: {out}");
        }
    }
    assert!(measured.contains("peak\n") && measured.contains("KiB"), "{out}");
    let found: Value =
        serde_json::from_str(&scene.succeed("simulate --measured run --json")).unwrap();
    let measured = &found["measured"];
    assert_eq!(measured["in_flight_peak"], found["in_flight_peak"]);
    let [makespan, work, over] = ["makespan", "work_per_rank", "bubble_over_work"]
        .map(|figure| measured[figure].as_f64().unwrap());
    assert!(0.0 < work && work < makespan && (makespan / work - 1.0 - over).abs() < 1e-9);
    assert_eq!(measured["peak_bytes"].as_array().unwrap().len(), 2);
}

#[test]
fn other_schedules_do_the_same_work_in_sizes_they_can_run() {
    let out = Scene::new().succeed(
        "simulate -p 4 -n 8 -m 4 -v 2 --attention 0.5 --against 1f1b,v-half,seq1f1b --json",
    );
    let found: Value = serde_json::from_str(&out).unwrap();
    let work = |of: &Value| of["work_per_rank"].as_f64().unwrap();
    let others = found["against"].as_array().unwrap();
    assert_eq!(others.len(), 3);
    for other in others {
        assert!((work(other) - work(&found)).abs() < 1e-9 * work(&found), "{other}");
    }
}

#[test]
fn a_schedule_that_cannot_be_is_refused() {
    let scene = Scene::new();
    for (args, told) in [
        ("-p 4 -n 2 -v 2", "raise --slices to 4 or set --chunks to 1"),
        ("-p 4 --schedule zebra", "unknown schedule"),
        ("-p 4 --forward nan", "a time is more than 0"),
        (
            "-p 4 -n 2 --attention 1 --exchange paper",
            "raise --slices to 4 or set --exchange to off",
        ),
        ("-p 4 -n 4 --exchange paper", "--attention"),
        ("-n 4", "--ranks"),
        ("-p 2 --draw picture.gif", ".html"),
        ("--measured tiny.toml", "is no timeline of a run"),
        ("-p 2 -m 3 --against interleaved-1f1b", "interleaved-1f1b"),
        ("-p 4 --schedule zb-h1 --vocabulary", "leave out --vocabulary"),
        ("-p 0", "--ranks is 0"),
        ("-p 4 -n 4 --schedule 1f1b", "set --slices to 1, or --schedule to slimpipe"),
        ("-p 65535 -n 65535 -m 65535", "-p 65535 -n 65535 -m 65535 -v 1 are about 1.7e15 actions"),
        ("-p 8 -n 8 -m 65535 -v 8000", "are about 2.0e11 actions"),
        ("-p 2 --forward 1e308", "longer than a number can say"),
        ("-p 2 --forward 1e308 --draw page.html", "longer than a number can say"),
    ] {
        let outcome = scene.run(&format!("simulate {args}"));
        assert_eq!(outcome.code, Some(2), "{args}");
        assert!(outcome.err.contains(told), "{args}: {}", outcome.err);
        assert!(!outcome.err.contains("parallel."), "{args}: {}", outcome.err);
    }
}
