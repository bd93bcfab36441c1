//! `slimpipe eval`.

use slimpipe::autograd::{KvCache, no_grad};
use slimpipe::prelude::*;
use slimpipe::train::hub;
use slimpipe::train::model::{LlamaStage, Source};

use crate::support::Scene;

/// The mean loss over windows of `seq_len` bytes, from whole logits and in f64.
fn reference(scene: &Scene, model: &str, text: &str, seq_len: usize) -> (f64, usize) {
    let (config, weights) = hub::open(&scene.path(model)).unwrap();
    let layers = config.num_hidden_layers;
    let spec = StageSpec::deal(0, 1, layers, seq_len);
    let stage = LlamaStage::new(&config, &spec, &Source::Folder(&weights), DType::F32).unwrap();
    let _no_grad = no_grad();
    let bytes: Vec<u32> = scene.read(text).into_iter().map(u32::from).collect();
    let (mut sum, mut count) = (0.0, 0);
    for start in (0..bytes.len() - seq_len).step_by(seq_len) {
        let ids =
            RawTensor::from_slice(&bytes[start..start + seq_len], seq_len, Device::Cpu).unwrap();
        let mut caches: Vec<KvCache> = (0..layers).map(|_| KvCache::new()).collect();
        let logits: Vec<f32> = stage.logits(&ids, &mut caches).unwrap().to_vec().unwrap();
        for (row, &label) in logits.chunks_exact(config.vocab_size).zip(&bytes[start + 1..]) {
            let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            sum += total.ln() - f64::from(row[label as usize]);
            count += 1;
        }
    }
    (sum / count as f64, count)
}

#[test]
fn the_loss_is_the_mean_over_consecutive_windows() {
    let scene = Scene::new();
    scene.train("run", "train.steps=5");
    scene.write("other.txt", "A slice, once forgotten, is not what it was. ".repeat(7)); // 315 bytes
    for seq_len in [1, 32, 45, 157, 314] {
        let words = format!("eval --model run/model --data other.txt --seq-len {seq_len}");
        let found: serde_json::Value =
            serde_json::from_str(&scene.succeed(&format!("{words} --json"))).unwrap();
        let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["loss", "perplexity", "tokens", "windows"]);
        let (loss, count) = reference(&scene, "run/model", "other.txt", seq_len);
        let [own, perplexity] = ["loss", "perplexity"].map(|key| found[key].as_f64().unwrap());
        assert!((own - loss).abs() <= 1e-5 * loss, "{seq_len}: {own} for {loss}");
        assert!((perplexity - own.exp()).abs() <= 1e-12 * perplexity);
        assert_eq!(found["tokens"], count);
        assert_eq!(found["windows"], 314 / seq_len);
        let told = scene.succeed(&words);
        assert!(
            told.contains(&format!("loss {own:.6} nats, perplexity {perplexity:.4}")),
            "{told}"
        );
    }
}

#[test]
fn training_lowers_the_loss_of_what_was_trained_on() {
    let scene = Scene::new();
    scene.train("short", "train.steps=1");
    scene.train("long", "train.steps=40 train.lr=0.01");
    let loss = |run: &str| {
        let words = format!("eval --model {run}/model --data text.txt --seq-len 64 --json");
        let found: serde_json::Value = serde_json::from_str(&scene.succeed(&words)).unwrap();
        found["loss"].as_f64().unwrap()
    };
    let (short, long) = (loss("short"), loss("long"));
    assert!((short - 256f64.ln()).abs() < 0.2, "{short}");
    assert!(long < 0.7 * short, "{long} after {short}");
}

#[test]
fn an_evaluation_that_cannot_be_is_refused_with_the_flag_that_is_wrong() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    scene.write("empty.txt", "");
    scene.write("ids.bin", [44, 1].repeat(100));
    for (words, expected) in [
        ("--model run/model --data text.txt --seq-len 0", &["`--seq-len`", "at least 1"][..]),
        ("--model run/model --data text.txt --seq-len 2040", &["`--seq-len`", "at most 2039"]),
        ("--model nowhere --data text.txt --seq-len 8", &["`--model`", "nowhere/config.json"]),
        ("--model run --data text.txt --seq-len 8", &["`--model`", "run/config.json"]),
        ("--model run/model --data nowhere --seq-len 8", &["`--data`", "cannot open nowhere"]),
        ("--model run/model --data empty.txt --seq-len 8", &["`--data`", "no text in empty.txt"]),
        ("--model run/model --data ids.bin --seq-len 8", &["`--data`", "token 300", "of 256"]),
    ] {
        scene.refuse(&format!("eval {words}"), expected);
    }
}

#[test]
fn flags_that_are_missing_or_no_numbers_are_refused_by_name() {
    let scene = Scene::new();
    for words in ["--model run --data text.txt", "--model run --data text.txt --seq-len many"] {
        let outcome = scene.run(&format!("eval {words}"));
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.err.contains("--seq-len <N>"), "{}", outcome.err);
    }
}

#[test]
fn text_needs_a_vocabulary_of_bytes_and_token_files_do_not() {
    let scene = Scene::new();
    scene.write("ids.bin", (0..200u16).flat_map(|i| (i % 50).to_le_bytes()).collect::<Vec<_>>());
    scene.train("run", "data.paths=ids.bin model.vocab_size=50 train.steps=1");
    let words = "eval --model run/model --seq-len 8 --data";
    scene.refuse(&format!("{words} text.txt"), &["`--data`", "taken as bytes", "has 50"]);
    scene.succeed(&format!("{words} ids.bin"));
}
