//! A plan as the settings of a run.

use super::{Layout, Model, Setup, Site};
use crate::Result;
use crate::config::{Config, ModelSettings};

impl Setup {
    /// Whether `slimpipe train` can run it today.
    ///
    /// # Errors
    /// What of it is not built yet.
    pub fn check_trained(&self, site: &Site<'_>) -> Result<()> {
        self.schedule.expect_executed()?;
        self.config(site).check_built()
    }

    /// Its settings as a file, called `name`, that says of which plan they are and how its run is started.
    pub fn file(&self, site: &Site<'_>, name: &str) -> String {
        let (work, gpus, in_node) = (site.work, site.work.gpus, site.hardware.node.gpus);
        let start = match self.check_trained(site) {
            Err(why) => format!("slimpipe train cannot run this yet: {why}"),
            Ok(()) if gpus <= in_node => format!("start it with: slimpipe train --config {name}"),
            Ok(()) => format!(
                "a launcher starts a process for each GPU: srun --ntasks={gpus} --ntasks-per-node={in_node} slimpipe train --config {name} --out runs/NAME"
            ),
        };
        format!(
            "# {} at {} tokens on {gpus} x {}: {self}\n# {start}\n{}",
            work.model.short_name(),
            work.context,
            site.hardware.name,
            self.config(site).to_toml()
        )
    }

    /// The settings that `slimpipe train` takes for it.
    pub fn config(&self, site: &Site<'_>) -> Config {
        let work = site.work;
        let Layout { tensor, context, pipeline, expert, data, slices, chunks } = self.layout;
        let mut config = Config { model: settings(&work.model), ..Config::default() };
        let (train, parallel) = (&mut config.train, &mut config.parallel);
        train.seq_len = work.context as usize;
        train.microbatches = work.batch;
        train.dtype = work.dtype;
        train.device = device(work.gpus, site.hardware.node.gpus);
        parallel.pipeline = pipeline;
        parallel.slices = slices;
        parallel.chunks = chunks;
        parallel.schedule = self.schedule.name().to_owned();
        parallel.data = data;
        parallel.exchange = Some(self.exchange.to_string());
        parallel.vocabulary = Some(self.vocabulary);
        parallel.tensor = tensor;
        parallel.context = context;
        parallel.expert = expert;
        config.memory.recompute = self.recompute;
        config.memory.offload = self.offload;
        config
    }
}

/// What `gpus` ranks compute on: threads of one process in a machine, beyond one the processes of a launcher.
fn device(gpus: u32, in_node: u32) -> String {
    if !(2..=in_node).contains(&gpus) {
        return "cuda".to_owned();
    }
    let numbers: Vec<_> = (0..gpus).map(|gpu| gpu.to_string()).collect();
    format!("cuda:{}", numbers.join(","))
}

fn settings(model: &Model) -> ModelSettings {
    let of = &model.dense;
    ModelSettings {
        path: None,
        vocab_size: of.vocab_size,
        hidden_size: of.hidden_size,
        intermediate_size: of.intermediate_size,
        num_hidden_layers: of.num_hidden_layers,
        num_attention_heads: of.num_attention_heads,
        num_key_value_heads: of.num_key_value_heads,
        head_dim: Some(of.head_dim),
        rope_theta: of.rope_theta,
        rms_norm_eps: of.rms_norm_eps,
        tie_word_embeddings: of.tie_word_embeddings,
        num_local_experts: model.experts.map_or(0, |experts| experts.count),
        num_experts_per_tok: model.experts.map_or(0, |experts| experts.per_token),
    }
}
