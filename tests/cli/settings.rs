//! Settings that cannot be.

use crate::support::Scene;

#[test]
fn settings_that_do_not_exist_are_refused_with_what_was_probably_meant() {
    let scene = Scene::new();
    for (setting, expected) in [
        ("train.setps=3", "did you mean `train.steps`?"),
        ("trian.steps=3", "did you mean `train.steps`?"),
        ("steps=3", "did you mean `train.steps`?"),
        ("parallel.slice=3", "did you mean `parallel.slices`?"),
        ("memory.limits=3", "did you mean `memory.limit`?"),
        ("train.steps.x=3", "did you mean `train.steps`?"),
        ("colour.of.train=red", "the README lists all settings"),
    ] {
        let name = setting.split('=').next().unwrap();
        scene.refuse_settings(setting, &[&format!("setting `{name}`"), expected]);
    }
    scene.refuse_settings("train.steps", &["setting `train.steps`", "section.key=value"]);
}

#[test]
fn values_of_the_wrong_type_are_refused_with_what_would_do() {
    let scene = Scene::new();
    for (setting, expected) in [
        ("train.steps=many", "is \"many\"; it must be a whole number"),
        ("train.steps=-1", "is -1; it must be a whole number"),
        ("train.steps=1.5", "is 1.5; it must be a whole number"),
        ("parallel.slices=99999999999", "it must be a whole number from 0 to 4294967295"),
        ("train.lr=fast", "is \"fast\"; it must be a number"),
        ("parallel.vocabulary=some", "is \"some\"; it must be true or false"),
        ("memory.trace=maybe", "is \"maybe\"; it must be true or false"),
        ("data.paths=3", "is 3; it must be a list"),
        ("train.dtype=f64", "there is no dtype `f64`; it must be `f32` or `bf16`"),
        ("train.dtype=16", "expected a string"),
        ("memory.limit=lots", "write it as `512 MiB`"),
        ("memory.limit=true", "expected a size such as `512 MiB`"),
        ("memory.offload=most", "is \"most\"; it must be a number"),
        ("memory.recompute=all", "is `all`; it must be `none`, `partial` or `full`"),
        ("memory.recompute=1", "expected a string"),
        ("memory.recompute_layers=3-1", "is `3-1`; write layers by index, as `0-3`"),
        ("memory.recompute_layers=true", "expected layers by index, such as `0-3`"),
        ("parallel.schedule=slimpie", "did you mean `slimpipe`?"),
        ("parallel.schedule=zb", "slimpipe, gpipe, 1f1b, interleaved-1f1b"),
        (
            "parallel.schedule=zb-v",
            "zb-v is verified and simulated only; ranks run slimpipe, gpipe,",
        ),
        ("parallel.schedule=v-half", "v-half is verified and simulated only"),
    ] {
        let name = setting.split('=').next().unwrap();
        scene.refuse_settings(setting, &[&format!("setting `{name}`"), expected]);
    }
}

#[test]
fn an_unknown_schedule_is_refused_with_those_that_train() {
    let scene = Scene::new();
    let told = scene.run("train --config tiny.toml --set parallel.schedule=dapple").err;
    assert!(told.contains("unknown schedule `dapple`; there are slimpipe, gpipe, 1f1b"), "{told}");
    assert!(told.contains("zb-h1") && !told.contains("zb-v") && !told.contains("v-half"), "{told}");
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let scene = Scene::new();
    for name in [
        "train.seq_len",
        "train.steps",
        "train.microbatches",
        "parallel.pipeline",
        "parallel.slices",
        "parallel.chunks",
        "model.vocab_size",
        "model.hidden_size",
        "model.intermediate_size",
        "model.num_hidden_layers",
        "model.num_attention_heads",
        "model.num_key_value_heads",
        "model.head_dim",
    ] {
        scene.refuse_settings(&format!("{name}=0"), &[name, "is 0", "must be"]);
    }
    for (setting, expected) in [
        ("train.lr=-1", "is -1; it must be finite and not negative"),
        ("train.lr=nan", "is NaN; it must be finite and not negative"),
        ("train.beta2=1", "is 1; it must be at least 0 and below 1"),
        (
            "memory.offload=1.5",
            "is 1.5; it is the part of activations that waits in a file, from 0",
        ),
        ("memory.offload=-0.1", "is -0.1; it is the part"),
        ("memory.offload=nan", "is NaN; it is the part"),
        ("memory.limit=0", "write it as `512 MiB`"),
        ("parallel.threads=100000", "it must be at most"),
        ("parallel.slices=70000", "at most 65535"),
        ("model.hidden_size=1000000000000", "must be between 1 and"),
        ("model.rope_theta=0", "must be finite and above 0"),
    ] {
        scene.refuse_settings(setting, &[setting.split('=').next().unwrap(), expected]);
    }
}

#[test]
fn settings_that_do_not_fit_each_other_are_refused_with_what_would_fit() {
    let scene = Scene::new();
    for (settings, expected) in [
        (
            "train.seq_len=30",
            &["train.seq_len to 28 or 32", "parallel.slices to a divisor of 30"][..],
        ),
        ("train.seq_len=3", &["train.seq_len to 4", "parallel.slices"]),
        ("parallel.pipeline=8", &["8 stages", "4 layers", "lower parallel.pipeline"]),
        (
            "parallel.chunks=4",
            &["8 stages", "4 layers", "lower parallel.pipeline or parallel.chunks"],
        ),
        ("parallel.chunks=2 parallel.slices=1", &["raise parallel.slices to 2"]),
        (
            "parallel.schedule=seq1f1b-balanced parallel.slices=33",
            &["32 tokens", "raise train.seq_len or lower parallel.slices"],
        ),
        ("parallel.schedule=zb-h1", &["set parallel.slices to 1"]),
        ("parallel.schedule=1f1b", &["set parallel.slices to 1", "slimpipe"]),
        (
            "parallel.schedule=gpipe parallel.slices=1 parallel.chunks=2",
            &["set parallel.chunks to 1"],
        ),
        (
            "parallel.schedule=interleaved-1f1b parallel.slices=1 parallel.chunks=2 train.microbatches=3",
            &["train.microbatches to be a multiple of parallel.pipeline"],
        ),
        (
            "parallel.vocabulary=true parallel.schedule=1f1b parallel.slices=1",
            &["set parallel.vocabulary to false", "slimpipe"],
        ),
        ("parallel.exchange=best", &["unknown exchange `best`", "off, paper, balanced"]),
        (
            "parallel.exchange=paper parallel.slices=1",
            &["parallel.exchange", "1 slices for 2 ranks", "raise parallel.slices to 2"],
        ),
        (
            "parallel.exchange=balanced parallel.schedule=1f1b parallel.slices=1",
            &["set parallel.exchange to off", "slimpipe schedule"],
        ),
        (
            "parallel.exchange=paper parallel.pipeline=3",
            &["4 layers do not divide into 3 stages", "set parallel.exchange to off"],
        ),
        ("parallel.exchange=paper parallel.slices=32", &["have 1 tokens", "lower parallel.slices"]),
        ("model.hidden_size=33", &["model.num_attention_heads", "set model.head_dim"]),
        ("model.head_dim=3", &["model.head_dim", "even head size"]),
        ("model.num_key_value_heads=3", &["model.num_key_value_heads", "does not divide"]),
        (
            "memory.recompute_layers=0",
            &["memory.recompute_layers", "set it to `partial` or `full`"],
        ),
        (
            "memory.recompute=full memory.recompute_layers=2-4",
            &["memory.recompute_layers", "is `2-4`", "layers are 0 to 3"],
        ),
        ("model.vocab_size=255", &["model.vocab_size", "of 256 or more"]),
    ] {
        scene.refuse_settings(settings, expected);
    }
}

#[test]
fn a_settings_file_that_cannot_be_read_is_refused_with_the_place() {
    let scene = Scene::new();
    scene.write("half.toml", "[train]\nsteps = \n");
    scene.write("binary.toml", [0xff, 0xfe, 0, 1]);
    scene.write("flat.toml", "train = 3\n");
    scene.write("typo.toml", "[train]\nstep = 3\n");
    for (file, expected) in [
        ("half.toml", &["half.toml is not valid TOML", "line 2"][..]),
        ("binary.toml", &["--config", "binary.toml", "UTF-8"]),
        ("flat.toml", &["setting `train`", "write [train]"]),
        ("typo.toml", &["setting `train.step`", "did you mean `train.steps`?"]),
        ("missing.toml", &["--config", "missing.toml"]),
    ] {
        scene.refuse(&format!("train --config {file} --out new"), expected);
    }
}
