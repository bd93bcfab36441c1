//! Training with shared attention.

use serde_json::Value;
use slimpipe::pipeline::schedule::{Exchange, Schedule, ScheduleKind, parse, verify_programs};
use slimpipe::train::Config;

use crate::support::Scene;

#[test]
fn a_run_says_shows_and_writes_down_what_it_shares() {
    let scene = Scene::new();
    let settings = "parallel.pipeline=4 parallel.slices=8 parallel.vocabulary=true train.steps=2";
    let losses = |exchange: &str| {
        let out = scene.train(exchange, &format!("{settings} parallel.exchange={exchange}"));
        let told = out.contains(&format!("1 chunk, {exchange} attention;"));
        assert_eq!(told, exchange != "off", "{out}");
        let config = Config::parse(&scene.text(&format!("{exchange}/config.toml")), &[]).unwrap();
        assert_eq!(config.parallel.exchange.as_deref(), Some(exchange));

        let schedule = Schedule::new(ScheduleKind::SlimPipe, 4, 8, 2, 1).unwrap();
        let schedule = schedule.with_exchange(exchange.parse().unwrap()).unwrap();
        let schedule = schedule.with_vocabulary(true).unwrap();
        let programs = parse(&scene.text(&format!("{exchange}/schedule.txt"))).unwrap();
        verify_programs(&schedule, programs, schedule.channel_capacity()).unwrap();

        let trace: Value =
            serde_json::from_str(&scene.text(&format!("{exchange}/timeline.json"))).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        for name in ["attend for F mb0 s", "attend for B mb1 s", "recv attn mb0 s"] {
            let is_shown = |event: &Value| event["name"].as_str().unwrap().starts_with(name);
            assert_eq!(events.iter().any(is_shown), exchange != "off", "{exchange}: {name}");
        }
        scene.metrics(exchange).iter().map(|step| step.loss).collect::<Vec<_>>()
    };
    let [off, paper, balanced] = Exchange::ALL.map(|exchange| losses(exchange.name()));
    for shared in [paper, balanced] {
        let close = off.iter().zip(&shared).all(|(a, b)| (a - b).abs() < 1e-4 * a);
        assert!(close, "{off:?} {shared:?}");
    }
}

#[test]
fn a_run_goes_on_with_what_it_chose() {
    let scene = Scene::new();
    scene.train("run", "train.steps=2");
    let chosen = |run: &str| {
        let text = scene.text(&format!("{run}/config.toml"));
        Config::parse(&text, &[]).unwrap().parallel.exchange
    };
    assert_eq!(chosen("run").as_deref(), Some("off"), "its slices are short");
    scene.succeed("train --resume run --set train.steps=4 --set parallel.exchange=paper");
    assert_eq!(chosen("run").as_deref(), Some("paper"));
    assert_eq!(scene.metrics("run").len(), 4);
}
