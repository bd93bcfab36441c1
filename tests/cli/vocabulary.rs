//! `parallel.vocabulary`: the same run and the same files, however embedding and output layer lie.

use crate::support::Scene;

/// Where they lie: whole on the ends, or on all ranks, which do not divide the vocabulary evenly.
const LAYOUTS: [(&str, &str); 3] = [
    ("ends", "parallel.pipeline=2 parallel.vocabulary=false"),
    ("two", "parallel.pipeline=2 parallel.vocabulary=true"),
    ("three", "parallel.pipeline=3 parallel.vocabulary=true"),
];

fn weights(scene: &Scene, run: &str) -> Vec<u8> {
    scene.read(&format!("{run}/model/model.safetensors"))
}

#[test]
fn folders_go_in_and_come_out_byte_for_byte() {
    let scene = Scene::new();
    for (model, settings) in
        [("untied", ""), ("tied", "model.tie_word_embeddings=true"), ("bf16", "train.dtype=bf16")]
    {
        // Without a learning rate weights stay as they were drawn, or read.
        let still = format!("{settings} train.lr=0 train.min_lr=0 train.steps=1");
        for (name, layout) in LAYOUTS {
            let (drawn, read) = (format!("{model}-{name}"), format!("{model}-{name}-read"));
            scene.train(&drawn, &format!("{still} {layout}"));
            scene.train(&read, &format!("{still} {layout} model.path={model}-ends/model"));
            for run in [drawn, read] {
                assert!(
                    weights(&scene, &run) == weights(&scene, &format!("{model}-ends")),
                    "{run}"
                );
            }
        }
    }
}

#[test]
fn losses_and_clipped_gradients_do_not_depend_on_the_layout() {
    Scene::new().expect_the_same_training(&LAYOUTS, "");
}

#[test]
fn a_run_keeps_the_layout_it_began_with() {
    let scene = Scene::new();
    scene.train("run", "train.steps=1");
    assert!(scene.text("run/config.toml").contains("vocabulary = true"));
    let other = "train --resume run --set parallel.vocabulary=false --set train.steps=2";
    scene.refuse(other, &["checkpoint ", "parallel.vocabulary", "it was written with"]);
    scene.succeed("train --resume run --set train.steps=2");
}
