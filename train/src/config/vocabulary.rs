//! Where it pays that all ranks share the vocabulary.

use slimpipe_pipeline::schedule::Schedule;

use super::Config;
use crate::Result;
use crate::flops::{head_cost, token_cost};
use crate::hub::LlamaConfig;

/// The least share of a rank's other work that the output layer must be. The last rank is so much
/// later than the others if it is alone with it, in every slice. Less than a tenth is not worth a
/// meeting of all ranks for every slice.
const LEAST: f64 = 0.1;

impl Config {
    /// The schedule with the vocabulary on all ranks: if `parallel.vocabulary` says so, or, where it is
    /// not set, if the schedule can and it pays.
    ///
    /// # Errors
    /// It is set for a schedule whose ranks cannot.
    pub(super) fn with_vocabulary(
        &self,
        schedule: Schedule,
        model: &LlamaConfig,
    ) -> Result<Schedule> {
        let can = schedule.lock_step().is_some() && model.vocab_size >= schedule.ranks() as usize;
        let pays = || schedule.ranks() > 1 && self.head_share(model) >= LEAST;
        let shared = self.parallel.vocabulary.unwrap_or_else(|| can && pays());
        Ok(schedule.with_vocabulary(shared)?)
    }

    /// The work of the output layer over what one of the ranks does for its layers.
    fn head_share(&self, model: &LlamaConfig) -> f64 {
        let cost = token_cost(model);
        let earlier = self.train.seq_len as f64 / 2.0;
        let layers = model.num_hidden_layers as f64 / f64::from(self.parallel.pipeline);
        head_cost(model) / (layers * (cost.own + cost.each_earlier * earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_shared(settings: &[&str]) -> bool {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        let job = Config::parse("", &settings).unwrap().resolve().unwrap();
        job.schedule.vocabulary()
    }

    #[test]
    fn a_large_vocabulary_is_shared_where_ranks_are_in_lock_step() {
        assert!(!is_shared(&[]), "bytes are few");
        assert!(is_shared(&["model.vocab_size=32000"]));
        assert!(!is_shared(&["model.vocab_size=32000", "parallel.pipeline=1"]));
        assert!(!is_shared(&["model.vocab_size=32000", "parallel.vocabulary=false"]));
        assert!(is_shared(&["parallel.vocabulary=true"]));
        let seq1f1b = ["model.vocab_size=32000", "parallel.schedule=seq1f1b"];
        assert!(!is_shared(&seq1f1b), "its ranks are not");
        assert!(
            !is_shared(&["model.vocab_size=1000", "train.seq_len=1048576"]),
            "attention is most of the work"
        );
    }
}
