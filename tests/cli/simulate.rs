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
    let (paper, balanced) = (bubble("--exchange paper"), bubble("--exchange balanced"));
    assert!(
        balanced < paper && paper < waiting && waiting < off,
        "{balanced} {paper} {waiting} {off}"
    );
}

#[test]
fn a_schedule_that_cannot_be_is_refused() {
    let scene = Scene::new();
    for (args, told) in [
        ("-p 4 -n 2 -v 2", "raise parallel.slices to 4"),
        ("-p 4 --schedule zebra", "unknown schedule"),
        ("-p 4 --forward nan", "a time is more than 0"),
        ("-p 4 -n 2 --attention 1 --exchange paper", "raise parallel.slices to 4"),
        ("-p 4 -n 4 --exchange paper", "--attention"),
        ("-p 4 -n 4 --schedule gpipe --vocabulary", "gpipe"),
    ] {
        let outcome = scene.run(&format!("simulate {args}"));
        assert_eq!(outcome.code, Some(2), "{args}");
        assert!(outcome.err.contains(told), "{args}: {}", outcome.err);
    }
}
