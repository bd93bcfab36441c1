//! `config.json`: reading what transformers 4 and 5 write, writing what both read.
//!
//! The two differ in where rotary settings are: version 4 has `rope_theta` and `rope_scaling` beside
//! the sizes, version 5 has them in `rope_parameters`. Fields that change nothing here are ignored;
//! fields that would change the mathematics and are not supported are errors.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use slimpipe_runtime::DType;

use super::{FieldError, HubError, LlamaConfig, Result, RopeScaling};

/// A JSON text beside weights is small; one that is not is something else.
const MOST_BYTES: u64 = 64 << 20;

impl LlamaConfig {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// No such file, or one that is not the configuration of a Llama that is supported.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        Self::parse(&read_text(&path)?, &path)
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// Not JSON, or not the configuration of a Llama that is supported.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::parse(text, Path::new("config.json"))
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let map: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| HubError::corrupt(path, format!("not a JSON object: {error}")))?;
        let fields = Fields { map: &map, parent: None };
        let read = || {
            refuse_unsupported(&fields)?;
            let config = from_fields(&fields)?;
            config.validate()?;
            Ok(config)
        };
        read().map_err(|error| HubError::Config { path: path.to_owned(), error })
    }

    /// The text of a `config.json` for weights of type `dtype`.
    pub fn to_json(&self, dtype: DType) -> String {
        let torch_dtype = match dtype {
            DType::BF16 => "bfloat16",
            DType::F16 => "float16",
            _ => "float32",
        };
        let eos_token_id = match self.eos_token_id[..] {
            [] => Value::Null,
            [one] => json!(one),
            ref several => json!(several),
        };
        let value = json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos_token_id,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": self.rope_scaling.as_ref().map(scaling_to_json),
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": torch_dtype,
            "vocab_size": self.vocab_size,
        });
        format!("{value:#}\n")
    }
}

/// The text of the small file `path`.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(HubError::io("read", path))?;
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(HubError::io("read", path))?;
    Ok(text)
}

/// A JSON object whose fields are asked for by name; null counts as absent.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    parent: Option<&'static str>,
}

impl<'a> Fields<'a> {
    fn error(&self, field: &str, what: impl Into<String>) -> FieldError {
        match self.parent {
            Some(parent) => FieldError::new(format!("{parent}.{field}"), what),
            None => FieldError::new(field, what),
        }
    }

    fn value(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn get<T: Deserialize<'a>>(&self, field: &str) -> Result<Option<T>, FieldError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        T::deserialize(value).map(Some).map_err(|error| self.error(field, format!("has {error}")))
    }

    fn require<T: Deserialize<'a>>(&self, field: &str) -> Result<T, FieldError> {
        self.get(field)?.ok_or_else(|| self.error(field, "is missing"))
    }

    fn object(&self, field: &'static str) -> Result<Option<Fields<'a>>, FieldError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { map, parent: Some(field) })),
            Some(other) => Err(self.error(field, format!("is {other}; expected an object"))),
        }
    }
}

/// Names the first setting that would change what the model computes in a way not supported.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), FieldError> {
    let refuse = |field: &str, value: String, supported: &str| {
        Err(fields.error(field, format!("is {value}, which is not supported; {supported}")))
    };
    let model_type: String = fields.require("model_type")?;
    if model_type != "llama" {
        return refuse("model_type", format!("\"{model_type}\""), "only \"llama\" is");
    }
    let architectures: Vec<String> = fields.get("architectures")?.unwrap_or_default();
    if !architectures.is_empty() && !architectures.iter().any(|name| name == "LlamaForCausalLM") {
        let supported = "only \"LlamaForCausalLM\" is";
        return refuse("architectures", format!("{architectures:?}"), supported);
    }
    for bias in ["attention_bias", "mlp_bias"] {
        if fields.get(bias)? == Some(true) {
            return refuse(bias, "true".to_owned(), "linear layers have no biases");
        }
    }
    let activation: String = fields.get("hidden_act")?.unwrap_or_else(|| "silu".to_owned());
    if activation != "silu" && activation != "swish" {
        return refuse("hidden_act", format!("\"{activation}\""), "only \"silu\" is");
    }
    let dropout: f64 = fields.get("attention_dropout")?.unwrap_or(0.0);
    if dropout != 0.0 {
        return refuse("attention_dropout", dropout.to_string(), "set it to 0");
    }
    for quantization in ["quantization_config", "compression_config"] {
        if fields.value(quantization).is_some() {
            let what = "is set; quantized weights are not supported: save the model in f32 or bf16";
            return Err(fields.error(quantization, what));
        }
    }
    refuse_partial_rotation(fields)
}

fn refuse_partial_rotation(fields: &Fields<'_>) -> Result<(), FieldError> {
    let rotated: f64 = fields.get("partial_rotary_factor")?.unwrap_or(1.0);
    if rotated == 1.0 {
        return Ok(());
    }
    let what = format!("is {rotated}, which is not supported; whole heads are rotated");
    Err(fields.error("partial_rotary_factor", what))
}

fn from_fields(fields: &Fields<'_>) -> Result<LlamaConfig, FieldError> {
    let hidden_size = fields.require("hidden_size")?;
    let heads = fields.require("num_attention_heads")?;
    let head_dim = match fields.get("head_dim")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && usize::is_multiple_of(hidden_size, heads) => hidden_size / heads,
        None => {
            let what = format!("is {heads}, which does not divide hidden_size {hidden_size}");
            return Err(fields.error("num_attention_heads", format!("{what}; set head_dim")));
        }
    };
    // Version 5 takes `rope_scaling`, where a file has both.
    let rotary = match fields.object("rope_scaling")?.filter(|rotary| !rotary.map.is_empty()) {
        Some(rotary) => Some(rotary),
        None => fields.object("rope_parameters")?,
    };
    let theta = rotary.as_ref().map_or(Ok(None), |rotary| rotary.get("rope_theta"))?;
    Ok(LlamaConfig {
        vocab_size: fields.require("vocab_size")?,
        hidden_size,
        intermediate_size: fields.require("intermediate_size")?,
        num_hidden_layers: fields.require("num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: fields.get("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        rms_norm_eps: fields.get("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: theta.or(fields.get("rope_theta")?).unwrap_or(10_000.0),
        rope_scaling: rotary.map_or(Ok(None), |rotary| scaling_from(&rotary))?,
        max_position_embeddings: fields.get("max_position_embeddings")?.unwrap_or(2048),
        tie_word_embeddings: fields.get("tie_word_embeddings")?.unwrap_or(false),
        bos_token_id: tokens(fields, "bos_token_id")?.first().copied(),
        eos_token_id: tokens(fields, "eos_token_id")?,
    })
}

/// One token or a list of them; negative ones, which some files use for "none", are left out.
fn tokens(fields: &Fields<'_>, field: &str) -> Result<Vec<u32>, FieldError> {
    let ids: Vec<i64> = match fields.value(field) {
        Some(Value::Array(_)) => fields.require(field)?,
        _ => fields.get(field)?.into_iter().collect(),
    };
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

fn scaling_from(rotary: &Fields<'_>) -> Result<Option<RopeScaling>, FieldError> {
    if let Some((kind, _)) = rotary.map.iter().find(|(_, value)| value.is_object()) {
        let what = "holds settings for one type of layer, which is not supported";
        return Err(rotary.error(kind, what));
    }
    refuse_partial_rotation(rotary)?;
    let key = if rotary.value("rope_type").is_some() { "rope_type" } else { "type" };
    let kind: String = rotary.get(key)?.unwrap_or_else(|| "default".to_owned());
    match kind.as_str() {
        "default" => Ok(None),
        "linear" => Ok(Some(RopeScaling::Linear { factor: rotary.require("factor")? })),
        "llama3" => Ok(Some(RopeScaling::Llama3 {
            factor: rotary.require("factor")?,
            low_freq_factor: rotary.require("low_freq_factor")?,
            high_freq_factor: rotary.require("high_freq_factor")?,
            original_max_position_embeddings: rotary.require("original_max_position_embeddings")?,
        })),
        other => {
            let what = format!("is \"{other}\", which is not supported");
            Err(rotary.error(key, format!("{what}; use \"default\", \"linear\" or \"llama3\"")))
        }
    }
}

fn scaling_to_json(scaling: &RopeScaling) -> Value {
    match *scaling {
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
    }
}
