//! `model.path`: folders to begin from.

use crate::support::Scene;

/// A scene with the weights of a short run in `model`.
fn with_model() -> Scene {
    let scene = Scene::new();
    scene.train("first", "train.steps=1");
    scene.copy("first/model", "model");
    scene
}

#[test]
fn training_begins_from_the_weights_of_another_run() {
    let scene = Scene::new();
    scene.train("first", "train.steps=30 train.lr=0.01");
    let before = scene.metrics("first");
    // Another width in the settings gives way to that of the folder.
    scene.train("second", "model.path=first/model model.hidden_size=64 train.steps=1");
    let after = scene.metrics("second");
    assert!(after[0].loss < before[0].loss - 1.0, "{} then {}", before[0].loss, after[0].loss);
    let config = scene.text("second/model/config.json");
    assert_eq!(config, scene.text("first/model/config.json"));
    // As bf16 too.
    scene.train("third", "model.path=first/model train.dtype=bf16 train.steps=1");
    let rounded = scene.metrics("third")[0].loss;
    assert!(
        (rounded - after[0].loss).abs() < 0.02 * after[0].loss,
        "{rounded} for {}",
        after[0].loss
    );
    assert!(scene.text("third/model/config.json").contains("bfloat16"));
}

#[test]
fn a_folder_without_a_model_is_refused() {
    let scene = with_model();
    let refuse = |path: &str, expected: &str| {
        let expected = ["setting `model.path`", expected];
        scene.refuse_settings(&format!("model.path={path}"), &expected);
    };
    refuse("nowhere", "cannot read nowhere/config.json");
    refuse("text.txt", "cannot read text.txt/config.json");
    scene.write("shape-only/config.json", scene.read("model/config.json"));
    refuse("shape-only", "has no model.safetensors");
}

#[test]
fn a_damaged_config_is_refused_with_the_file_and_the_field() {
    let scene = with_model();
    let good = scene.text("model/config.json");
    for (name, config, expected) in [
        ("half", good[..good.len() / 2].to_owned(), "config.json: not a JSON object"),
        ("list", "[1, 2]".to_owned(), "config.json: not a JSON object"),
        ("word", good.replace("\"hidden_size\": 16", "\"hidden_size\": \"wide\""), "`hidden_size`"),
        (
            "zero",
            good.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 0"),
            "`num_hidden_layers` is 0",
        ),
        ("bert", good.replace("\"llama\"", "\"bert\""), "`model_type` is \"bert\""),
        ("wide", good.replace("\"hidden_size\": 16", "\"hidden_size\": 32"), "has shape [256, 16]"),
        (
            "deep",
            good.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"),
            "`model.layers.4.",
        ),
    ] {
        assert_ne!(config, good, "{name}");
        scene.copy("model", name);
        scene.write(&format!("{name}/config.json"), &config);
        let expected = ["setting `model.path`", name, expected];
        scene.refuse_settings(&format!("model.path={name}"), &expected);
    }
}

#[test]
fn damaged_weights_are_refused_with_the_file_and_what_is_wrong() {
    let scene = with_model();
    let good = scene.read("model/model.safetensors");
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut scrambled = good.clone();
    scrambled[8..header].fill(b'x');
    let mut endless = good.clone();
    endless[..8].fill(0xff);
    for (name, weights, expected) in [
        ("empty", &[][..], "not a safetensors file"),
        ("headless", &good[..header - 1], "truncated"),
        ("short", &good[..good.len() - 1], "is truncated"),
        ("scrambled", &scrambled, "the header is not a JSON object"),
        ("endless", &endless, "not a safetensors file"),
        ("long", &[&good[..], b"tail"].concat(), "4 bytes at the end belong to no tensor"),
    ] {
        scene.copy("model", name);
        scene.write(&format!("{name}/model.safetensors"), weights);
        let expected = ["setting `model.path`", name, "model.safetensors", expected];
        scene.refuse_settings(&format!("model.path={name}"), &expected);
        let eval = format!("eval --model {name} --data text.txt --seq-len 8");
        scene.refuse(&eval, &["setting `--model`", expected[3]]);
    }
}
