//! The models that can be planned: those that come along, and any Hugging Face `config.json` of a
//! Llama or a Mixtral.

use std::path::Path;

use serde_json::{Map, Value};

use crate::flops::FlopsPerToken;
use crate::hub::LlamaConfig;
use crate::{Error, Result};

/// The shape of a model to plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its name, or the path of its file.
    pub name: String,
    /// What it has in common with a Llama. Where there are experts, each has an MLP of this size.
    pub dense: LlamaConfig,
    /// The experts of each layer, if it is a mixture.
    pub experts: Option<Experts>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts in each layer.
    pub count: u32,
    /// Experts that each token goes through.
    pub per_token: u32,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../models/", $name, ".json")))),*]
    };
}

/// The models of the SlimPipe paper's evaluation, with a vocabulary of 128,000.
const FILES: [(&str, &str); 6] =
    files!["llama-7b", "llama-13b", "llama-70b", "llama-149b", "mixtral-8x7b", "mixtral-8x22b"];

/// Where `--model` is wrong.
fn wrong(what: impl Into<String>) -> Error {
    Error::setting("--model", what)
}

impl Model {
    /// The model of that name, or that of a `config.json`, given by itself or by its folder.
    ///
    /// # Errors
    /// Neither is there, or it is the configuration of another kind of model.
    pub fn open(name: &str) -> Result<Self> {
        if let Some((name, text)) = FILES.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let mut path = Path::new(name).to_owned();
        if path.is_dir() {
            path.push("config.json");
        }
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let known = FILES.map(|(name, _)| name).join(", ");
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let what = if missing { "there is none".to_owned() } else { error.to_string() };
            wrong(format!(
                "`{name}` is neither a model that comes along ({known}) nor the path of a config.json: {what}"
            ))
        })?;
        Self::parse(name, &text)
    }

    /// The names of the models that come along.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// Reads the text of a `config.json`. What a Mixtral says beyond a Llama is read here, the rest
    /// as a Llama's.
    fn parse(name: &str, text: &str) -> Result<Self> {
        let of = |what: String| wrong(format!("{name}: {what}"));
        let mut map: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| of(format!("not a JSON object: {error}")))?;
        let kind = map.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let experts = match kind {
            "llama" => None,
            "mixtral" => {
                let experts = Experts::from_map(&map).map_err(of)?;
                map.insert("model_type".to_owned(), "llama".into());
                map.remove("architectures");
                Some(experts)
            }
            other => {
                let what =
                    format!("`model_type` is \"{other}\"; plans are made for llama and mixtral");
                return Err(of(what));
            }
        };
        let dense = LlamaConfig::from_json(&Value::Object(map).to_string()).map_err(|error| {
            of(match error {
                crate::hub::HubError::Config { error, .. } => error.to_string(),
                other => other.to_string(),
            })
        })?;
        Ok(Self { name: name.to_owned(), dense, experts })
    }

    /// Weights of the attention of one layer.
    pub fn attention_weights(&self) -> u64 {
        let of = &self.dense;
        let (q, kv) = (of.num_attention_heads, of.num_key_value_heads);
        (of.hidden_size * of.head_dim * 2 * (q + kv)) as u64
    }

    /// Weights of one MLP: one expert's, where there are several.
    pub fn mlp_weights(&self) -> u64 {
        (3 * self.dense.hidden_size * self.dense.intermediate_size) as u64
    }

    /// MLPs in a layer.
    pub fn mlps(&self) -> u32 {
        self.experts.map_or(1, |experts| experts.count)
    }

    /// MLPs of a layer that each token goes through.
    pub fn mlps_per_token(&self) -> u32 {
        self.experts.map_or(1, |experts| experts.per_token)
    }

    /// Weights of one layer that choose its experts.
    pub fn router_weights(&self) -> u64 {
        self.experts.map_or(0, |experts| u64::from(experts.count) * self.dense.hidden_size as u64)
    }

    /// Weights of the embedding table; the output layer has as many.
    pub fn table_weights(&self) -> u64 {
        (self.dense.vocab_size * self.dense.hidden_size) as u64
    }

    /// All parameters; a tied output layer counts once.
    pub fn parameter_count(&self) -> u64 {
        let more = self.router_weights() + u64::from(self.mlps() - 1) * self.mlp_weights();
        self.dense.parameter_count() + self.dense.num_hidden_layers as u64 * more
    }

    /// FLOPs of training on one token, causal attention counted once.
    pub fn flops_per_token(&self, context: u64) -> f64 {
        let mut active = self.dense.clone();
        active.intermediate_size *= self.mlps_per_token() as usize;
        let router = self.dense.num_hidden_layers as u64 * self.router_weights();
        FlopsPerToken::of(&active, context as usize).causal + 6.0 * router as f64
    }

    /// The model without its folders and extension.
    pub fn short_name(&self) -> &str {
        let path = Path::new(&self.name);
        let stem = match path.file_name() {
            Some(file) if file == "config.json" => path.parent().and_then(Path::file_name),
            file => file,
        };
        stem.and_then(|stem| stem.to_str()).unwrap_or(&self.name)
    }
}

impl Experts {
    fn from_map(map: &Map<String, Value>) -> Result<Self, String> {
        let get = |field: &str| {
            let value = map.get(field).and_then(Value::as_u64).filter(|n| (1..=65_535).contains(n));
            value.map(|n| n as u32).ok_or_else(|| match map.get(field) {
                Some(value) => format!("`{field}` is {value}; it must be between 1 and 65535"),
                None => format!("`{field}` is missing"),
            })
        };
        let (count, per_token) = (get("num_local_experts")?, get("num_experts_per_tok")?);
        if per_token > count {
            return Err(format!(
                "`num_experts_per_tok` is {per_token}, more than the {count} of num_local_experts"
            ));
        }
        if map.get("sliding_window").is_some_and(|window| !window.is_null()) {
            return Err("`sliding_window` is set; plans are made for full attention".to_owned());
        }
        Ok(Self { count, per_token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_that_comes_along_is_as_large_as_its_name_says() {
        for (name, billions) in [
            ("llama-7b", 7.5),
            ("llama-13b", 14.0),
            ("llama-70b", 70.5),
            ("llama-149b", 150.5),
            ("mixtral-8x7b", 47.5),
            ("mixtral-8x22b", 141.8),
        ] {
            let model = Model::open(name).unwrap();
            let parameters = model.parameter_count() as f64 / 1e9;
            assert!((parameters / billions - 1.0).abs() < 0.01, "{name}: {parameters:.1} B");
        }
        assert_eq!(Model::names().count(), 6);
    }

    #[test]
    fn a_config_of_another_kind_is_refused_by_its_field() {
        for (text, expected) in [
            ("[]", "not a JSON object"),
            ("{}", "`model_type` is \"\""),
            (r#"{"model_type": "gpt2"}"#, "is \"gpt2\"; plans are made for llama and mixtral"),
            (r#"{"model_type": "llama"}"#, "`hidden_size` is missing"),
            (r#"{"model_type": "mixtral"}"#, "`num_local_experts` is missing"),
            (
                r#"{"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3}"#,
                "is 3, more than the 2",
            ),
            (
                r#"{"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": -1}"#,
                "is -1; it must be",
            ),
        ] {
            let error = Model::parse("it", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Model::open("llama-71b").unwrap_err().to_string();
        assert!(error.contains("llama-70b") && error.contains("config.json"), "{error}");
    }
}
