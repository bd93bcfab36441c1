//! Hugging Face folders: what is read, what is refused and in which words, what is written.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use slimpipe_runtime::DType;
use slimpipe_train::hub::{
    self, FolderWriter, LlamaConfig, RopeScaling, SafetensorsFile, SafetensorsWriter, TensorSpec,
    Weights, write_folder,
};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn small() -> LlamaConfig {
    LlamaConfig {
        vocab_size: 6,
        hidden_size: 8,
        intermediate_size: 10,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-5,
        rope_theta: 500_000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        }),
        max_position_embeddings: 131_072,
        tie_word_embeddings: false,
        bos_token_id: Some(1),
        eos_token_id: vec![2, 5],
    }
}

/// Bytes of every tensor of `config`, each unlike the others.
fn contents(config: &LlamaConfig, dtype: DType) -> Vec<(String, Vec<u8>)> {
    let tensor = |(i, (name, shape)): (usize, (String, Vec<usize>))| {
        let len = shape.iter().product::<usize>() * dtype.size();
        (name, (0..len).map(|byte| (byte * 7 + i * 31) as u8).collect())
    };
    config.tensors().enumerate().map(tensor).collect()
}

fn write(dir: &Path, config: &LlamaConfig, dtype: DType) -> Vec<(String, Vec<u8>)> {
    let contents = contents(config, dtype);
    let tensors = contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    write_folder(dir, config, dtype, tensors).unwrap();
    contents
}

fn minimal() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    })
}

/// The minimal configuration with some fields set.
fn with(fields: Value) -> hub::Result<LlamaConfig> {
    let mut config = minimal();
    for (field, value) in fields.as_object().unwrap() {
        config[field] = value.clone();
    }
    LlamaConfig::from_json(&config.to_string())
}

// -- round trips --

#[test]
fn a_written_folder_reads_back_bit_for_bit() {
    for (dtype, tied) in [(DType::F32, false), (DType::BF16, true), (DType::F16, false)] {
        let dir = TempDir::new().unwrap();
        let config = LlamaConfig { tie_word_embeddings: tied, ..small() };
        let contents = write(dir.path(), &config, dtype);
        assert_eq!(names_in(dir.path()), ["config.json", "model.safetensors"]);
        let (read, weights) = hub::open(dir.path()).unwrap();
        assert_eq!(read, config);
        assert_eq!(weights.names().count(), contents.len());
        for ((name, bytes), (_, shape)) in contents.iter().zip(config.tensors()) {
            assert_eq!(weights.float_dtype(name, &shape).unwrap(), dtype);
            let mut out = vec![0; bytes.len()];
            weights.read_into(name, &mut out).unwrap();
            assert_eq!(&out, bytes, "{name}");
        }
    }
}

#[test]
fn tensors_may_be_written_in_any_order() {
    let dir = TempDir::new().unwrap();
    let (config, contents) = (small(), contents(&small(), DType::F32));
    let mut folder = FolderWriter::create(dir.path(), &config, DType::F32).unwrap();
    for (name, bytes) in contents.iter().rev() {
        folder.write(name, bytes).unwrap();
    }
    folder.finish().unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let mut out = vec![0; contents[3].1.len()];
    weights.read_into(&contents[3].0, &mut out).unwrap();
    assert_eq!(out, contents[3].1);
}

#[test]
fn the_reference_implementation_reads_what_is_written() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mixed.safetensors");
    let spec = |name: &str, shape: &[usize], dtype| TensorSpec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        dtype,
    };
    let specs = [
        spec("bytes", &[3], DType::U8),
        spec("half", &[1, 5], DType::BF16),
        spec("step", &[], DType::I64),
        spec("empty", &[0, 4], DType::F32),
    ];
    let mut writer = SafetensorsWriter::create(&path, specs, &[("step", "7")]).unwrap();
    writer.write("step", &7i64.to_le_bytes()).unwrap();
    writer.write("bytes", &[1, 2, 3]).unwrap();
    writer.write("empty", &[]).unwrap();
    writer.write("half", &[9; 10]).unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("bytes").unwrap().data(), [1, 2, 3]);
    assert_eq!(read.tensor("half").unwrap().shape(), [1, 5]);
    assert_eq!(read.tensor("step").unwrap().data(), 7i64.to_le_bytes());
    let aligned = read.tensor("step").unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize;
    assert!(aligned.is_multiple_of(8));
    assert_eq!(SafetensorsFile::open(&path).unwrap().metadata()["step"], "7");
}

#[test]
fn parameters_are_counted_as_they_are_listed() {
    for tie_word_embeddings in [false, true] {
        let config = LlamaConfig { tie_word_embeddings, ..small() };
        let listed = config.tensors().map(|(_, shape)| shape.iter().product::<usize>() as u64);
        assert_eq!(config.parameter_count(), listed.sum::<u64>());
    }
}

// -- what transformers writes --

#[test]
fn folders_of_transformers_4_and_5_open() {
    for name in ["gqa", "mha", "mqa", "tied", "head_dim", "linear", "llama3", "llama3_tied"] {
        let (config, weights) = hub::open(&fixture(name)).unwrap();
        assert_eq!((config.vocab_size, config.rope_theta), (96, 500.0), "{name}");
        assert_eq!((config.bos_token_id, &config.eos_token_id[..]), (Some(1), &[2][..]));
        let tensors = weights.names().count();
        assert_eq!(tensors, config.tensors().count(), "{name}");
        assert_eq!(config.tie_word_embeddings, name.contains("tied"));
    }
    let config = |name| LlamaConfig::read(&fixture(name)).unwrap();
    assert_eq!((config("gqa").num_key_value_heads, config("gqa").head_dim), (2, 8));
    assert_eq!((config("head_dim").hidden_size, config("head_dim").head_dim), (32, 20));
    assert_eq!(config("linear").rope_scaling, Some(RopeScaling::Linear { factor: 4.0 }));
    assert_eq!(config("llama3").rope_scaling, config("llama3_tied").rope_scaling);
    assert_eq!(
        config("llama3").rope_scaling,
        Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        })
    );
}

#[test]
fn absent_and_null_fields_take_the_defaults_of_transformers() {
    let config = with(json!({ "head_dim": null, "num_key_value_heads": null })).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (16, 4));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
    assert_eq!((config.max_position_embeddings, config.rope_scaling), (2048, None));
    assert!(!config.tie_word_embeddings && config.eos_token_id.is_empty());
}

#[test]
fn the_spellings_of_rotary_settings_mean_the_same() {
    let linear = Some(RopeScaling::Linear { factor: 2.0 });
    for (fields, scaling) in [
        (json!({ "rope_theta": 5000 }), None),
        (json!({ "rope_theta": 5000.0, "rope_scaling": null }), None),
        (json!({ "rope_parameters": { "rope_theta": 5000, "rope_type": "default" } }), None),
        (json!({ "rope_theta": 5000, "rope_parameters": {} }), None),
        (json!({ "rope_theta": 5000, "rope_scaling": { "type": "linear", "factor": 2 } }), linear),
        (
            json!({ "rope_parameters": { "rope_theta": 5e3, "rope_type": "linear", "factor": 2.0 },
                    "rope_scaling": {} }),
            linear,
        ),
    ] {
        let config = with(fields.clone()).unwrap();
        assert_eq!((config.rope_theta, config.rope_scaling), (5000.0, scaling), "{fields}");
    }
}

#[test]
fn fields_that_change_nothing_are_ignored() {
    let fields = json!({
        "initializer_range": 0.1, "use_cache": true, "pretraining_tp": 1, "torch_dtype": "bfloat16",
        "pad_token_id": -1, "bos_token_id": -1, "eos_token_id": [3, -1, 4], "hidden_act": "swish",
        "quantization_config": null, "attention_bias": false, "partial_rotary_factor": 1.0,
    });
    let config = with(fields).unwrap();
    assert_eq!((config.bos_token_id, config.eos_token_id), (None, vec![3, 4]));
}

// -- what is refused --

#[test]
fn what_is_not_supported_or_not_valid_is_named() {
    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64 });
    for (fields, expected) in [
        (json!({ "model_type": "mistral" }), "`model_type` is \"mistral\", which is not supported"),
        (json!({ "model_type": null }), "`model_type` is missing"),
        (json!({ "architectures": ["LlamaModel"] }), "`architectures` is [\"LlamaModel\"]"),
        (json!({ "attention_bias": true }), "`attention_bias` is true, which is not supported"),
        (json!({ "mlp_bias": true }), "`mlp_bias` is true, which is not supported"),
        (json!({ "hidden_act": "gelu" }), "`hidden_act` is \"gelu\", which is not supported"),
        (json!({ "attention_dropout": 0.1 }), "`attention_dropout` is 0.1"),
        (json!({ "quantization_config": { "bits": 4 } }), "`quantization_config` is set"),
        (json!({ "partial_rotary_factor": 0.5 }), "`partial_rotary_factor` is 0.5"),
        (
            json!({ "rope_parameters": { "partial_rotary_factor": 0.5 } }),
            "`rope_parameters.partial_rotary_factor` is 0.5",
        ),
        (
            json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } }),
            "`rope_scaling.rope_type` is \"yarn\", which is not supported; use \"default\"",
        ),
        (
            json!({ "rope_scaling": { "type": "dynamic", "factor": 4.0 } }),
            "`rope_scaling.type` is \"dynamic\"",
        ),
        (json!({ "rope_scaling": { "type": "linear" } }), "`rope_scaling.factor` is missing"),
        (
            json!({ "rope_scaling": llama3 }),
            "`rope_scaling.high_freq_factor` is 4; it must be above",
        ),
        (json!({ "rope_scaling": 3 }), "`rope_scaling` is 3; expected an object"),
        (
            json!({ "rope_parameters": { "full_attention": { "rope_theta": 1e4 } } }),
            "`rope_parameters.full_attention` holds settings for one type of layer",
        ),
        (json!({ "rope_theta": 0 }), "`rope_theta` is 0; it must be finite and above 0"),
        (json!({ "rms_norm_eps": -1e-5 }), "`rms_norm_eps` is -0.00001"),
        (json!({ "vocab_size": null }), "`vocab_size` is missing"),
        (json!({ "vocab_size": "many" }), "`vocab_size` has invalid type: string \"many\""),
        (json!({ "vocab_size": -3 }), "`vocab_size` has invalid value: integer `-3`"),
        (json!({ "vocab_size": 1u64 << 40 }), "`vocab_size` is 1099511627776"),
        (json!({ "hidden_size": 0 }), "`hidden_size` is 0; it must be between 1 and"),
        (json!({ "hidden_size": 66 }), "`num_attention_heads` is 4, which does not divide"),
        (json!({ "num_attention_heads": 0 }), "`num_attention_heads` is 0"),
        (json!({ "num_hidden_layers": u64::MAX }), "`num_hidden_layers` is 18446744073709551615"),
        (json!({ "num_key_value_heads": 3 }), "`num_key_value_heads` is 3, which does not divide"),
        (json!({ "num_key_value_heads": 0 }), "`num_key_value_heads` is 0"),
        (json!({ "head_dim": 15 }), "`head_dim` is 15; rotary positions need an even head size"),
        (json!({ "max_position_embeddings": 0 }), "`max_position_embeddings` is 0"),
        (
            json!({ "hidden_size": 1 << 24, "head_dim": 1 << 24, "num_attention_heads": 1 << 24 }),
            "`hidden_size` and the other sizes together make more parameters",
        ),
    ] {
        let error = with(fields.clone()).map(|_| ()).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: ") && error.contains(expected),
            "{fields}: {error}"
        );
    }
    let error = LlamaConfig::from_json("[1, 2").unwrap_err().to_string();
    assert!(error.starts_with("config.json: not a JSON object: "), "{error}");
}

/// A folder of the small model after `change`, and the error that opening it gives.
fn error_after(change: impl FnOnce(&Path)) -> String {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &small(), DType::F32);
    change(dir.path());
    hub::open(dir.path()).map(|_| ()).unwrap_err().to_string()
}

/// Rewrites the weights in `dir` as those that `keep` makes of them.
fn rewrite(dir: &Path, keep: impl FnOnce(&mut Vec<TensorSpec>)) {
    let spec = |(name, shape)| TensorSpec { name, shape, dtype: DType::F32 };
    let mut specs: Vec<_> = small().tensors().map(spec).collect();
    keep(&mut specs);
    let path = dir.join("model.safetensors");
    let mut writer = SafetensorsWriter::create(&path, specs.clone(), &[]).unwrap();
    for TensorSpec { name, shape, dtype } in specs {
        writer.write(&name, &vec![0; shape.iter().product::<usize>() * dtype.size()]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_named() {
    let error = error_after(|dir| rewrite(dir, |specs| drop(specs.remove(4))));
    assert!(
        error.contains("tensor `model.layers.0.self_attn.v_proj.weight` is missing"),
        "{error}"
    );

    let error = error_after(|dir| rewrite(dir, |specs| specs[2].shape = vec![8, 24]));
    let expected = "q_proj.weight` has shape [8, 24], config.json means [24, 8]";
    assert!(error.contains(expected) && error.contains("model.safetensors"), "{error}");

    let error = error_after(|dir| rewrite(dir, |specs| specs[2].dtype = DType::I32));
    assert!(error.contains("q_proj.weight` is I32; save the model as f32"), "{error}");

    let added = |name: &str| {
        let spec = TensorSpec { name: name.to_owned(), shape: vec![3], dtype: DType::F32 };
        error_after(|dir| rewrite(dir, |specs| specs.push(spec)))
    };
    let error = added("model.layers.0.self_attn.q_proj.bias");
    assert!(error.contains("q_proj.bias` is a bias, and biases are not supported"), "{error}");
    let error = added("model.layers.2.mlp.up_proj.weight");
    assert!(error.contains("is no tensor of the Llama that config.json describes"), "{error}");
}

#[test]
fn a_tied_head_and_rotary_frequencies_of_older_files_are_let_be() {
    let dir = TempDir::new().unwrap();
    let config = LlamaConfig { tie_word_embeddings: true, ..small() };
    write(dir.path(), &config, DType::F32);
    rewrite(dir.path(), |specs| {
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
        specs.push(TensorSpec { name, shape: vec![3], dtype: DType::F32 });
    });
    hub::open(dir.path()).unwrap();
}

#[test]
fn folders_without_weights_say_what_to_do() {
    let without = |dir: &Path| fs::remove_file(dir.join("model.safetensors")).unwrap();
    let error = error_after(without);
    assert!(error.contains("has no model.safetensors or model.safetensors.index.json"), "{error}");
    let error = error_after(|dir| {
        without(dir);
        fs::write(dir.join("pytorch_model.bin"), "pickle").unwrap();
    });
    assert!(error.contains("pickled weights are not read"), "{error}");
    let error = error_after(|dir| fs::remove_file(dir.join("config.json")).unwrap());
    assert!(error.contains("config.json: No such file") && error.contains("; is this"), "{error}");
}

#[test]
fn an_index_that_leaves_its_folder_or_does_not_fit_its_shards_is_refused() {
    let with_index = |index: Value| {
        error_after(|dir| {
            fs::rename(dir.join("model.safetensors"), dir.join("shard.safetensors")).unwrap();
            fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        })
    };
    let name = "model.norm.weight";
    for escape in ["../shard.safetensors", "/etc/passwd", "a/b", ".", "..", "", "./x.safetensors"] {
        let error = with_index(json!({ "weight_map": { name: escape } }));
        let refusal = format!("{escape:?}, which is not a file of this folder");
        assert!(error.contains(&refusal), "{error}");
    }
    let error = with_index(json!({ "weight_map": { name: "other.safetensors" } }));
    assert!(error.contains("cannot read") && error.contains("other.safetensors"), "{error}");
    let error = with_index(json!({ "weight_map": { "no.such": "shard.safetensors" } }));
    assert!(error.contains("shard.safetensors: tensor `no.such` is missing"), "{error}");
    let error = with_index(json!({ "weight_map": [] }));
    assert!(error.contains("index.json: not an index of shards"), "{error}");
}

/// A safetensors file of `header` and `data`.
fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn open_bytes(bytes: &[u8]) -> hub::Result<SafetensorsFile> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    SafetensorsFile::open(&path)
}

#[test]
fn a_damaged_safetensors_file_says_what_is_wrong_and_where() {
    let entry = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |entry: String| file_of(&format!(r#"{{"w":{entry}}}"#), &[0; 8]);
    let two = |a: String, b: String| file_of(&format!(r#"{{"a":{a},"w":{b}}}"#), &[0; 8]);
    let huge = u64::MAX / 8;
    for (bytes, expected) in [
        (vec![1, 2, 3], "3 bytes are not a safetensors file"),
        (vec![0xff; 64], "not a safetensors file (a header of"),
        (file_of("{", &[])[..8].to_vec(), "truncated: the header takes 9 bytes, the file has 8"),
        (file_of("[]", &[]), "the header is not a JSON object"),
        (file_of(r#"{"__metadata__":{"a":1}}"#, &[]), "__metadata__"),
        (file_of("{}", &[0; 4]), "4 bytes at the end belong to no tensor"),
        (one(entry("[2]", 0, 8).replace("F32", "F33")), "tensor `w` is damaged: unknown variant"),
        (one(entry("[3]", 0, 8)), "tensor `w` is damaged: F32 of shape [3] does not take bytes"),
        (one(entry("[2]", 8, 0)), "does not take bytes 8..0"),
        (one(entry("[-2]", 0, 8)), "tensor `w` is damaged: invalid value"),
        (one(entry(&format!("[{huge}, 64]"), 0, 8)), "does not take bytes"),
        (one(entry("[4]", 0, 16)), "tensor `w` is truncated: it ends at byte"),
        (one(entry("[1]", 4, 8)), "tensor `w` is damaged: its bytes do not follow"),
        (one(entry("[1]", 0, 4)), "4 bytes at the end belong to no tensor"),
        (two(entry("[2]", 0, 8), entry("[1]", 4, 8)), "tensor `w` is damaged: its bytes do not"),
        (
            one(entry("[1]", u64::MAX - 3, u64::MAX).replace("F32", "U8").replace("[1]", "[3]")),
            "tensor `w` is damaged: there are no bytes",
        ),
    ] {
        let error = open_bytes(&bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let whole = fs::read(fixture("tied").join("model.safetensors")).unwrap();
    for len in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        assert!(open_bytes(&whole[..len]).is_err(), "{len}");
    }
    open_bytes(&whole).unwrap();
}

// -- all or nothing --

#[test]
fn an_unfinished_folder_leaves_nothing_and_what_was_there() {
    let dir = TempDir::new().unwrap();
    let fresh = dir.path().join("model");
    drop(FolderWriter::create(&fresh, &small(), DType::F32).unwrap());
    assert!(!fresh.exists());

    write(&fresh, &small(), DType::F32);
    let before = fs::read(fresh.join("model.safetensors")).unwrap();
    let mut folder = FolderWriter::create(&fresh, &small(), DType::BF16).unwrap();
    folder.write("model.norm.weight", &[1; 16]).unwrap();
    let error = folder.finish().unwrap_err().to_string();
    assert!(error.contains("tensor `lm_head.weight` was never written"), "{error}");
    assert_eq!(fs::read(fresh.join("model.safetensors")).unwrap(), before);
    assert_eq!(names_in(&fresh), ["config.json", "model.safetensors"]);
}

#[test]
fn tensors_that_do_not_belong_are_refused_while_writing() {
    let dir = TempDir::new().unwrap();
    let mut folder = FolderWriter::create(dir.path(), &small(), DType::F32).unwrap();
    let error = folder.write("model.norm.weight", &[0; 31]).unwrap_err().to_string();
    assert!(error.contains("`model.norm.weight` takes 32 bytes, got 31"), "{error}");
    folder.write("model.norm.weight", &[0; 32]).unwrap();
    for name in ["model.norm.weight", "model.norm.bias"] {
        let error = folder.write(name, &[0; 32]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` was not announced")), "{error}");
    }
    let invalid = LlamaConfig { head_dim: 3, ..small() };
    let error = FolderWriter::create(&dir.path().join("new"), &invalid, DType::F32).map(|_| ());
    assert!(error.unwrap_err().to_string().contains("`head_dim` is 3"));
    assert!(!dir.path().join("new").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_what_was_there() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), &small(), DType::F32);
    let before = fs::read(dir.path().join("model.safetensors")).unwrap();
    for file in ["model.safetensors", "config.json"] {
        // A device that is always full stands in for the file being written.
        let partial = dir.path().join(format!(".{file}.partial"));
        std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
        let error = FolderWriter::create(dir.path(), &small(), DType::BF16).map(|_| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("; free space there"), "{error}");
        assert_eq!(names_in(dir.path()), ["config.json", "model.safetensors"]);
    }
    assert_eq!(fs::read(dir.path().join("model.safetensors")).unwrap(), before);
}

// -- hostile input --

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_configuration_panic(text in ".{0,200}") {
        let _ = LlamaConfig::from_json(&text);
    }

    #[test]
    fn a_configuration_with_any_numbers_is_refused_or_usable(
        field in prop::sample::select(vec![
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim",
            "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rope_theta",
            "rms_norm_eps",
        ]),
        value in prop_oneof![any::<u64>().prop_map(Value::from), (0u64..100).prop_map(Value::from),
            any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)],
    ) {
        if let Ok(config) = with(json!({ field: value })) {
            let frequencies = config.rope_frequencies();
            prop_assert_eq!(frequencies.len(), config.head_dim / 2);
            prop_assert!(frequencies.iter().all(|frequency| frequency.is_finite()));
            prop_assert!(config.parameter_count() > 0);
            prop_assert_eq!(LlamaConfig::from_json(&config.to_json(DType::BF16)).unwrap(), config);
        }
    }

    #[test]
    fn a_configuration_with_any_bytes_changed_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut text = fs::read(fixture("llama3_tied").join("config.json")).unwrap();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let _ = LlamaConfig::from_json(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn random_bytes_never_open_as_safetensors(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open_bytes(&bytes).is_err());
    }

    #[test]
    fn a_safetensors_file_with_any_bytes_changed_is_refused_or_reads(
        changes in prop::collection::vec((0usize..1500, any::<u8>()), 1..8),
    ) {
        let mut bytes = fs::read(fixture("tied").join("model.safetensors")).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("model.safetensors");
        fs::write(&path, &bytes).unwrap();
        if let Ok(file) = SafetensorsFile::open(&path) {
            for (name, info) in file.tensors() {
                prop_assert!(info.byte_count() <= bytes.len() as u64);
                let mut out = vec![0; info.byte_count() as usize];
                file.read_into(name, &mut out).unwrap();
            }
        }
    }
}
