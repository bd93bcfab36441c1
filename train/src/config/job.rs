//! What a configuration resolves to: everything checked that can be before a rank starts.

use slimpipe_pipeline::comm::Mesh;
use slimpipe_pipeline::comm::environment::Place;
use slimpipe_pipeline::execute;
use slimpipe_pipeline::schedule::{Schedule, ScheduleError, ScheduleKind, Slices};
use slimpipe_runtime::{DType, team};

use super::{Config, Ranks};
use crate::flops::token_cost;
use crate::hub::{self, HubError, LlamaConfig, Weights};
use crate::model::Recompute;
use crate::optimizer::AdamWConfig;
use crate::{Error, Result};

/// Threads of a rank, on machines with fewer cores: enough to try what more would do.
const MOST_THREADS: usize = 64;

/// A run that can begin.
pub struct Job {
    /// The settings it comes from, with what was left to be chosen.
    pub config: Config,
    /// The model's shape.
    pub model: LlamaConfig,
    /// The weights to begin with, where a folder was given.
    pub weights: Option<Weights>,
    /// The schedule.
    pub schedule: Schedule,
    /// How it cuts sequences.
    pub slices: Slices,
    /// The dtype of weights and activations.
    pub dtype: DType,
    /// Where the ranks are, and on what they compute.
    pub ranks: Ranks,
    /// What each layer makes again in backward.
    pub recompute: Vec<Recompute>,
    /// Threads that share one rank's operations.
    pub threads: usize,
    /// The optimizer's constants.
    pub adamw: AdamWConfig,
}

impl Job {
    /// The ranks in a grid: pipelines side by side.
    pub fn mesh(&self) -> Mesh {
        Mesh::new(self.schedule.data_ranks(), self.schedule.ranks())
    }
}

impl Config {
    /// Checks the settings against each other and against the model folder.
    ///
    /// # Errors
    /// Whatever cannot be, named by its setting.
    pub fn resolve(&self) -> Result<Job> {
        self.resolve_at(None)
    }

    /// As [`Config::resolve`], for this process in its `place` among those that a launcher started.
    ///
    /// # Errors
    /// As [`Config::resolve`]; another number of processes than ranks.
    pub fn resolve_at(&self, place: Option<Place>) -> Result<Job> {
        self.check_recipe()?;
        self.check_built()?;
        if let Some(path) = self.data.tokenizer.as_ref().filter(|path| !path.is_file()) {
            let what = format!("there is no file {}; name a tokenizer.json", path.display());
            return Err(Error::setting("data.tokenizer", what));
        }
        let (model, weights) = match &self.model.path {
            Some(path) => {
                let unusable = |error: HubError| Error::setting("model.path", error.to_string());
                let (config, weights) = hub::open(path).map_err(unusable)?;
                (config, Some(weights))
            }
            None => (self.llama()?, None),
        };
        let (train, parallel) = (&self.train, &self.parallel);
        let unusable =
            |error: ScheduleError| Error::setting("parallel.schedule", error.to_string());
        let kind = ScheduleKind::parse_executed(&parallel.schedule).map_err(unusable)?;
        let schedule = Schedule::new(
            kind,
            parallel.pipeline,
            parallel.slices,
            self.microbatches()?,
            parallel.chunks,
        )?;
        let schedule = schedule.with_data_ranks(parallel.data)?;
        let ranks = self.ranks(schedule.ranks() * schedule.data_ranks(), place)?;
        let schedule = self.with_vocabulary(schedule, &model)?;
        let slices = schedule.cut(train.seq_len, token_cost(&model))?;
        let stages = u64::from(parallel.pipeline) * u64::from(parallel.chunks);
        if stages > model.num_hidden_layers as u64 {
            let (stages, layers) = (stages as u32, model.num_hidden_layers);
            return Err(execute::Error::TooManyStages { stages, layers }.into());
        }
        let (_, slice_len) = slices.extremes();
        let schedule = self.share_attention(schedule, &model, slice_len)?;
        if parallel.timeout == 0 {
            return Err(Error::setting("parallel.timeout", "is 0; it is a number of seconds"));
        }
        let threads = match parallel.threads {
            0 => (team::cores() / (parallel.data * parallel.pipeline) as usize).max(1),
            threads => threads,
        };
        let most = team::cores().max(MOST_THREADS);
        if threads > most {
            let what =
                format!("is {threads}; it must be at most {most}, and helps up to the cores");
            return Err(Error::setting("parallel.threads", what));
        }
        let adamw = AdamWConfig {
            beta1: train.beta1 as f32,
            beta2: train.beta2 as f32,
            eps: train.eps as f32,
            weight_decay: train.weight_decay as f32,
        };
        let (dtype, recompute) = (train.dtype.into(), self.recompute(model.num_hidden_layers)?);
        let mut config = self.clone();
        config.parallel.exchange = Some(schedule.exchange().to_string());
        Ok(Job {
            config,
            model,
            weights,
            schedule,
            slices,
            dtype,
            ranks,
            recompute,
            threads,
            adamw,
        })
    }

    /// Sequences in a step of one pipeline, m.
    fn microbatches(&self) -> Result<u32> {
        let (all, data) = (self.train.microbatches, self.parallel.data);
        if data == 0 || !all.is_multiple_of(data) {
            let what = format!(
                "is {data}, which does not divide the step's sequences; set it to a divisor of train.microbatches {all}"
            );
            return Err(Error::setting("parallel.data", what));
        }
        Ok(all / data)
    }

    /// What each of the model's layers makes again.
    fn recompute(&self, layers: usize) -> Result<Vec<Recompute>> {
        let (mode, chosen) = (self.memory.recompute, &self.memory.recompute_layers);
        let refuse = |what| Err(Error::setting("memory.recompute_layers", what));
        if let Some(chosen) = chosen {
            if mode == Recompute::None {
                let what =
                    "names layers, but memory.recompute is `none`; set it to `partial` or `full`";
                return refuse(what.to_owned());
            }
            if chosen.last() >= layers {
                let last = layers.saturating_sub(1);
                return refuse(format!(
                    "is `{chosen}`; the model's layers are 0 to {last} (model.num_hidden_layers)"
                ));
            }
        }
        let is_chosen = |layer| chosen.as_ref().is_none_or(|chosen| chosen.contains(layer));
        let of = |layer| if is_chosen(layer) { mode } else { Recompute::None };
        Ok((0..layers).map(of).collect())
    }

    fn llama(&self) -> Result<LlamaConfig> {
        let model = &self.model;
        let heads = model.num_attention_heads;
        if model.head_dim.is_none() && !model.hidden_size.is_multiple_of(heads.max(1)) {
            let what = format!(
                "is {heads}, which does not divide model.hidden_size {}; set model.head_dim",
                model.hidden_size
            );
            return Err(Error::setting("model.num_attention_heads", what));
        }
        let config = LlamaConfig {
            vocab_size: model.vocab_size,
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            num_hidden_layers: model.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: model.num_key_value_heads,
            head_dim: model.head_dim.unwrap_or(model.hidden_size / heads.max(1)),
            rms_norm_eps: model.rms_norm_eps,
            rope_theta: model.rope_theta,
            rope_scaling: None,
            max_position_embeddings: self.train.seq_len,
            tie_word_embeddings: model.tie_word_embeddings,
            bos_token_id: None,
            eos_token_id: Vec::new(),
        };
        config.validate()?;
        Ok(config)
    }

    fn check_recipe(&self) -> Result<()> {
        let train = &self.train;
        for (setting, count) in
            [("train.steps", train.steps), ("train.seq_len", train.seq_len as u64)]
        {
            if count == 0 {
                return Err(Error::setting(setting, "is 0; it must be at least 1"));
            }
        }
        let at_least_zero = [
            ("train.lr", train.lr),
            ("train.min_lr", train.min_lr),
            ("train.weight_decay", train.weight_decay),
            ("train.eps", train.eps),
            ("train.clip_norm", train.clip_norm),
        ];
        for (setting, value) in at_least_zero {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::setting(
                    setting,
                    format!("is {value}; it must be finite and not negative"),
                ));
            }
        }
        let offload = self.memory.offload;
        if !(0.0..=1.0).contains(&offload) {
            let what = format!(
                "is {offload}; it is the part of activations that waits in a file, from 0 (none) to 1 (all)"
            );
            return Err(Error::setting("memory.offload", what));
        }
        for (setting, value) in [("train.beta1", train.beta1), ("train.beta2", train.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::setting(
                    setting,
                    format!("is {value}; it must be at least 0 and below 1"),
                ));
            }
        }
        Ok(())
    }
}
