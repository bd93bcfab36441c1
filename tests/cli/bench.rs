//! `slimpipe bench` and `slimpipe doctor`.

use serde_json::Value;

use crate::support::Scene;

/// The one line a measurement prints.
fn line(words: &str) -> Value {
    let out = Scene::new().succeed(words);
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}

const TINY: &str = "bench train --hidden 32 --layers 2 --heads 4 --kv-heads 2 --ffn 48 --vocab 64 --seq 64 --steps 2";

#[test]
fn bench_train_prints_the_keys_of_the_script_it_is_compared_with() {
    for dtype in ["f32", "bf16"] {
        let line = line(&format!("{TINY} --dtype {dtype} --threads 1 --batch 2"));
        for key in ["tokens_per_s", "gflops", "step_s", "peak_rss_mib", "loss"] {
            assert!(line[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {line}");
        }
        assert!(line["peer"].as_str().unwrap().starts_with("slimpipe-"));
        assert_eq!(line["dtype"], dtype);
        assert_eq!(line["compile"], false);
        assert_eq!(line["seq"], 64);
        let (attention, mlp, norms) = (32 * (32 + 16 + 16 + 32), 3 * 32 * 48, 2 * 32);
        assert_eq!(line["params"], 2 * 64 * 32 + 32 + 2 * (attention + mlp + norms));
        // The loss of random tokens, rounding aside.
        assert!((line["loss"].as_f64().unwrap() - 64f64.ln()).abs() < 0.3, "{line}");
    }
}

#[test]
fn bench_train_refuses_what_cannot_be_measured() {
    let scene = Scene::new();
    for (flag, expected) in [
        ("--dtype f64", "there is no dtype `f64`"),
        ("--steps 0", "--steps"),
        ("--seq 0", "`--seq`: is 0"),
        ("--slices 3", "--slices"),
        ("--heads 5", "does not divide"),
        ("--vocab 0", "--vocab"),
    ] {
        let name = flag.split(' ').next().unwrap();
        let words = TINY.split("--").map(|flag| format!("--{flag}"));
        let rest: String =
            words.skip(1).filter(|word| !word.starts_with(&format!("{name} "))).collect();
        scene.refuse(&format!("bench train {rest} {flag}"), &[expected]);
    }
}

#[test]
fn bench_bubble_prints_measured_and_expected() {
    let line = line("bench bubble -p 2 -n 4 -m 2 --work 1 --runs 1");
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    let expected =
        ["bubble_percent", "difference_points", "expected_percent", "m", "n", "p", "runs", "v"];
    assert_eq!(keys, expected);
    assert!((line["expected_percent"].as_f64().unwrap() - 100.0 / 9.0).abs() < 1e-9);
    let measured = line["bubble_percent"].as_f64().unwrap();
    assert!((0.0..100.0).contains(&measured));
    assert_eq!(line["runs"], serde_json::json!([measured]));
}

#[test]
fn bench_simulate_finds_the_memory_of_the_executed_step() {
    for schedule in [
        "slimpipe",
        "slimpipe -v 2",
        "slimpipe -p 1 -v 2",
        "gpipe -n 1 -m 3",
        "1f1b -n 1 -m 3",
        "interleaved-1f1b -n 1 -v 2",
        "terapipe -n 4",
        "seq1f1b -n 4",
        "seq1f1b-balanced -n 5",
        "zb-h1 -n 1 -m 3",
    ] {
        let words = format!("bench simulate --seq 320 --layers 4 --pairs 1 --schedule {schedule}");
        let line = line(&words);
        let keys =
            ["simulated_s", "executed_s", "difference_percent", "replayed_difference_percent"];
        for key in keys {
            assert!(line[key].is_f64(), "{key}: {line}");
        }
        let ranks = line["memory"].as_array().unwrap();
        assert_eq!(ranks.len() as u64, line["p"].as_u64().unwrap(), "{line}");
        for rank in ranks {
            let difference = rank["difference_percent"].as_f64().unwrap();
            assert!(difference.abs() <= 2.0, "{schedule}: {line}");
            let parts = |of: &str| -> u64 {
                rank[of].as_object().unwrap().values().filter_map(Value::as_u64).sum()
            };
            for of in ["simulated", "executed"] {
                assert_eq!(parts(of), rank[format!("{of}_bytes")], "{schedule}: {line}");
            }
            assert!(rank["executed"]["activations"].as_u64() > Some(1 << 20), "{line}");
        }
    }
}

#[test]
fn bench_simulate_refuses_what_cannot_be_measured() {
    let scene = Scene::new();
    scene.refuse("bench simulate --pairs 0", &["--pairs"]);
    scene.refuse(
        "bench simulate --schedule zb-v",
        &["--schedule", "zb-v is verified and simulated only"],
    );
    scene.refuse("bench simulate --schedule zb-h1", &["set --slices to 1"]);
    scene.refuse("bench simulate --seq 100 -n 8", &["set --seq to 96 or 104", "--slices to"]);
}

#[test]
fn bench_memory_prints_a_row_for_every_mode_and_all_train_alike() {
    let line = line("bench memory -p 1 -n 8 -m 1 --seq 256 --layers 2 --rounds 1");
    assert_eq!(line["same_losses"], true);
    let rows = line["rank_0"].as_array().unwrap();
    let peak = |recompute: &str, offload: f64| {
        let is = |row: &&Value| row["recompute"] == recompute && row["offload"] == offload;
        rows.iter().find(is).unwrap()["activations_mib"].as_f64().unwrap()
    };
    let [none, partial, full] = ["none", "partial", "full"].map(|mode| peak(mode, 0.0));
    assert!(full < partial && partial < none);
    assert!(peak("none", 1.0) < peak("none", 0.5) && peak("none", 0.5) < none);
    assert!(peak("full", 1.0) < full);
    assert!(rows.iter().all(|row| row["tokens_per_s"].as_f64().unwrap() > 0.0));
}

#[test]
fn bench_bubble_refuses_what_cannot_be_measured() {
    let scene = Scene::new();
    scene.refuse("bench bubble -p 100000 --work 1", &["--pipeline"]);
    scene.refuse("bench bubble -p 0 --work 1", &["--pipeline is 0"]);
    scene.refuse("bench bubble -n 0 --work 1", &["--slices is 0"]);
    scene.refuse("bench reach --step 65", &["--step"]);
    scene.refuse("bench reach --limit lots", &["--limit", "`lots` is not a size"]);
}

#[test]
fn doctor_says_what_the_machine_offers() {
    let out = Scene::new().succeed("doctor");
    let value = |name: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in: {out}")).trim().to_owned()
    };
    let number = |text: String| text.split_whitespace().next().unwrap().parse::<f64>().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(number(value("cores")), cores as f64);
    assert!(number(value("f32 peak")) > 0.0 && value("f32 peak").contains("GFLOP/s"));
    assert!(number(value("bf16 peak")) > 0.0);
    assert!(number(value("memory")) > 0.0);
    assert!(value("AVX512-BF16").starts_with("yes") || value("AVX512-BF16").starts_with("no"));
    assert!(!value("vector units").is_empty());
    for found_or_why_not in ["GPU", "NVRTC", "NCCL", "cuBLASLt", "kernel cache"] {
        assert!(!value(found_or_why_not).is_empty(), "{found_or_why_not}");
    }
}

#[test]
fn bench_gpu_compares_a_gpu_with_the_cpu_and_its_memory_with_the_plan() {
    if let Err(why) = slimpipe::kernels::cuda::compile::available() {
        eprintln!("skipped: {why}");
        return;
    }
    let scene = Scene::new();
    let words =
        "bench gpu -p 1,2 -n 2 -m 1 --seq 128 --layers 2 --hidden 64 --steps 2 --dtype bf16";
    let mut command = scene.command(words);
    let output = slimpipe_mock::preload(&mut command).env("SLIMPIPE_KERNEL_IMAGE", "ptx").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = (output.stdout.split(|&byte| byte == b'\n'))
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    for (line, ranks) in lines.iter().zip(1..) {
        assert_eq!((&line["p"], line["ranks"].as_array().unwrap().len()), (&ranks.into(), ranks));
        // Other sums, other roundings: equal would mean that the CPU ran twice.
        assert!(line["off_cpu"].as_f64().is_some_and(|off| off > 0.0), "{line}");
    }
}

#[test]
fn a_cublaslt_that_was_asked_for_and_is_missing_is_one_line() {
    let scene = Scene::new();
    for (variable, value, expected) in [
        ("SLIMPIPE_GEMM", "cublaslt", "SLIMPIPE_GEMM asks for cuBLASLt, which was not found"),
        ("SLIMPIPE_GEMM", "fast", "SLIMPIPE_GEMM is `fast`; it can be `own` or `cublaslt`"),
    ] {
        let mut command = scene.command("doctor");
        let output = command.env(variable, value).env("SLIMPIPE_CUBLASLT", "/nowhere").output();
        let out = String::from_utf8(output.unwrap().stdout).unwrap();
        let line = out.lines().find(|line| line.starts_with("bf16 products")).unwrap();
        assert!(line.contains("none: ") && line.contains(expected), "{line}");
    }
}
