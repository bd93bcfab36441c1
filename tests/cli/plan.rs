//! `slimpipe plan`.

use serde_json::Value;

use crate::support::Scene;

/// A Llama small enough to train here.
const TINY: &str = r#"{"model_type": "llama", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 1024, "tie_word_embeddings": false}"#;

fn json(scene: &Scene, args: &str) -> Value {
    serde_json::from_str(&scene.succeed(&format!("plan {args} --json"))).unwrap()
}

#[test]
fn a_layout_is_evaluated_as_the_authors_planner_does() {
    let scene = Scene::new();
    let found = json(
        &scene,
        "--model llama-70b --context 65536 --gpus 256 --batch 64 --layout t=2,c=4,p=8,e=1,d=4,n=8,v=10 \
         --recompute none --schedule slimpipe --accounting paper",
    );
    for (key, printed) in [
        ("params_grads_gib", 24.27),
        ("optimizer_gib", 3.03),
        ("activations_gib", 24.60),
        ("logits_gib", 0.49),
        ("recompute_gib", 0.0),
        ("kv_cache_gib", 0.0),
        ("kv_grad_gib", 0.44),
        ("peak_gib", 52.83),
        ("bubble_percent", 0.54),
    ] {
        let got = found[key].as_f64().unwrap();
        assert!((got - printed).abs() < 0.01, "{key}: {got}, printed {printed}");
    }
    assert!(found["mfu_percent"].as_f64().unwrap() > 30.0);
    assert!(found["tokens_per_second_per_gpu"].as_f64().unwrap() > 100.0);
    assert_eq!(found.as_object().unwrap().len(), 11);
}

#[test]
fn a_search_ranks_plans_that_fit_and_explains_the_first() {
    let scene = Scene::new();
    let args = "--model llama-13b --context 128K --gpus 32 --top 3";
    let found = json(&scene, args);
    let speeds: Vec<f64> = (found.as_array().unwrap().iter())
        .map(|row| row["tokens_per_second_per_gpu"].as_f64().unwrap())
        .collect();
    assert!(speeds.len() == 3 && speeds.is_sorted_by(|a, b| a >= b), "{speeds:?}");
    for row in found.as_array().unwrap() {
        assert!(row["peak_gib"].as_f64().unwrap() < 78.0, "{row}");
    }
    let out = scene.succeed(&format!("plan {args} --why"));
    for told in ["llama-13b (14.", "simulated", "with one change", "recompute full", "slower: "] {
        assert!(out.contains(told), "{told}: {out}");
    }
}

#[test]
fn a_plan_is_written_as_settings_that_train() {
    let scene = Scene::new();
    scene.write("config.json", TINY);
    let plan =
        "plan --model config.json --context 1K --gpus 2 --batch 2 --runnable --out plan.toml";
    let out = scene.succeed(plan);
    assert!(out.contains("2 sequences of 1024 tokens"), "{out}");
    scene.write("text.txt", "What is sliced is soon forgotten. ".repeat(600));
    let out = scene.succeed(
        "train --config plan.toml --set data.paths=text.txt --set train.steps=1 --set train.dtype=f32 --set train.device=cpu",
    );
    assert!(out.contains("step 1: loss"), "{out}");
}

#[test]
fn a_table_says_what_its_figures_are() {
    let scene = Scene::new();
    scene.write("config.json", TINY);
    let out = scene.succeed("plan --model config.json --context 1K --gpus 1 --batch 2");
    for told in ["(54 K parameters)", " GiB of the GPU that holds most ", "kv kv-grad"] {
        assert!(out.contains(told), "{told}: {out}");
    }
    let layout = "--gpus 1 --batch 2 --layout n=4";
    let out = scene.succeed(&format!("plan --model config.json --context 1K {layout}"));
    assert!(!out.contains("-0.0") && out.contains("bubble             0.00 %"), "{out}");
}

#[test]
fn a_plans_settings_name_its_gpus_and_how_to_start_on_them() {
    let scene = Scene::new();
    scene.write("config.json", TINY);
    for (gpus, device, start) in [
        (1, "cuda", "start it with: slimpipe train --config plan.toml"),
        (4, "cuda:0,1,2,3", "start it with: slimpipe train --config plan.toml"),
        (16, "cuda", "srun --ntasks=16 --ntasks-per-node=8 slimpipe train --config plan.toml"),
    ] {
        let plan = format!("plan --model config.json --context 4K --batch 16 --gpus {gpus}");
        let outcome = scene.run(&format!("{plan} --runnable --out plan.toml"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert!(!outcome.err.contains("warning"), "{}", outcome.err);
        let text = scene.text("plan.toml");
        assert!(text.contains(&format!("device = \"{device}\"")) && text.contains(start), "{text}");
    }
}

#[test]
fn an_axis_that_is_not_built_is_named_when_its_plan_is_to_be_trained() {
    let scene = Scene::new();
    let layout = "--model mixtral-8x7b --context 64K --gpus 256 --layout";
    for (axes, setting) in [
        ("t=4,p=8,d=8,n=8", "parallel.tensor"),
        ("c=4,p=8,d=8,n=8", "parallel.context"),
        ("e=4,p=8,d=32,n=8", "parallel.expert"),
        ("p=32,d=8,n=32", "model.num_local_experts"),
    ] {
        let planned = scene.run(&format!("plan {layout} {axes} --out plan.toml"));
        assert_eq!(planned.code, Some(0), "{axes}: {}", planned.err);
        for told in ["warning: slimpipe train cannot run this yet", setting, "--runnable"] {
            assert!(planned.err.contains(told), "{axes}: {}", planned.err);
        }
        let outcome = scene.run("train --config plan.toml");
        assert_eq!(outcome.code, Some(2), "{axes}");
        let told = format!("setting `{setting}`");
        assert!(outcome.err.contains(&told), "{axes}: {}", outcome.err);
        assert!(outcome.err.contains("not built yet"), "{axes}: {}", outcome.err);
    }
}

#[test]
fn what_cannot_be_planned_is_refused_with_what_would_do() {
    let scene = Scene::new();
    scene.write("gpu.toml", "name = \"mine\"\n[gpu]\nmemory_gib = 80.0\n");
    scene.write("gpt2.json", r#"{"model_type": "gpt2"}"#);
    let given = "--model llama-70b --context 64K --gpus 256 --layout";
    for (args, told) in [
        (format!("{given} t=2,c=4,p=8,d=2"), "= 128 GPUs, not the 256"),
        (format!("{given} t=2,c=4,p=8,d=4,x=1"), "there is no axis `x`"),
        (format!("{given} t=16,p=16,d=1"), "does not divide the model's 64 heads"),
        (format!("{given} t=4,p=16,d=4,n=8,v=5"), "raise n to 16"),
        (format!("{given} t=4,p=16,d=4,n=16,v=10"), "every stage needs a layer"),
        (format!("{given} t=2,c=4,p=8,d=4,n=7"), "a multiple of"),
        (format!("{given} e=2,p=8,d=32,n=8"), "has no experts"),
        (format!("{given} p=2,d=128,n=8"), "do not divide among d=128"),
        ("--model llama-70b --context 64K --gpus 8".to_owned(), "nothing fits: weights, gradients"),
        ("--model llama-70b --context 64Q --gpus 8".to_owned(), "write it as 65536, 64K or 1M"),
        ("--model llama-70b --context 64K --gpus 0".to_owned(), "--gpus"),
        ("--model llama-71b --context 64K --gpus 8".to_owned(), "llama-70b"),
        (
            "--model gpt2.json --context 64K --gpus 8".to_owned(),
            "plans are made for llama and mixtral",
        ),
        (
            "--model llama-7b --context 64K --gpus 8 --gpu gpu.toml".to_owned(),
            "missing field `peak_tflops`",
        ),
        ("--model llama-7b --context 64K --gpus 8 --gpu h9".to_owned(), "h800-80g"),
        ("--model llama-7b --context 64K --gpus 8 --pick 999".to_owned(), "plans fit"),
        ("--context 64K --gpus 8".to_owned(), "--model"),
    ] {
        let outcome = scene.run(&format!("plan {args}"));
        assert_eq!(outcome.code, Some(2), "{args}: {}", outcome.out);
        assert!(outcome.err.contains(told), "{args}: {}", outcome.err);
    }
}
