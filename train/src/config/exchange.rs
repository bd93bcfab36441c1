//! `parallel.exchange`: how ranks share attention, and where they do so without being told.

use slimpipe_pipeline::execute::check_exchange;
use slimpipe_pipeline::schedule::{Exchange, Schedule};

use super::Config;
use crate::flops::token_cost;
use crate::hub::LlamaConfig;
use crate::{Error, Result};

/// Tokens of the shortest slices whose attention is shared unasked. For half a chunk of S/2 keys
/// a helper computes 2 S S floating-point operations per query element, and for each of its S query
/// elements reads and writes about 4 in all: S/2 operations per element that moves, which should be
/// far more than a machine computes in the time it moves one.
const SLICE_LEN: usize = 512;

/// The part of a layer's operations from which on attention is. With less, sharing it saves a
/// hundredth of a step on paper, and waiting for each other in every layer costs about that.
const ATTENTION: f64 = 0.1;

impl Config {
    /// `schedule` of `model` in slices of `slice_len` tokens, with attention shared as the setting says;
    /// unless it is set `balanced`, wherever that can run and is worth while
    /// (docs/decisions/0009-attention-exchange.md).
    ///
    /// # Errors
    /// A way that does not exist, or cannot run in this layout.
    pub(super) fn share_attention(
        &self,
        schedule: Schedule,
        model: &LlamaConfig,
        slice_len: usize,
    ) -> Result<Schedule> {
        let share = |exchange| -> Result<Schedule> {
            let schedule = schedule.clone().with_exchange(exchange)?;
            check_exchange(&schedule, model.num_hidden_layers, slice_len)?;
            Ok(schedule)
        };
        if let Some(name) = &self.parallel.exchange {
            let refuse =
                |error: &dyn ToString| Error::setting("parallel.exchange", error.to_string());
            let exchange = name.parse().map_err(|error| refuse(&error))?;
            return share(exchange).map_err(|error| refuse(&error));
        }
        let cost = token_cost(model);
        let attention = cost.each_earlier * self.train.seq_len as f64 / 2.0;
        let pays = schedule.ranks() > 1
            && slice_len >= SLICE_LEN
            && attention >= ATTENTION * (cost.own + attention);
        let balanced = pays.then(|| share(Exchange::Balanced).ok()).flatten();
        Ok(balanced.unwrap_or(schedule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a configuration with these settings on top of the defaults chooses.
    fn chosen(settings: &str) -> Exchange {
        let settings: Vec<String> = settings.split(' ').map(str::to_owned).collect();
        Config::parse("", &settings).unwrap().resolve().unwrap().schedule.exchange()
    }

    #[test]
    fn attention_is_shared_unasked_where_slices_are_long_and_it_is_much_of_the_work() {
        for (settings, expected) in [
            ("train.seq_len=1024", Exchange::Off),
            ("train.seq_len=4096", Exchange::Balanced),
            ("train.seq_len=4096 parallel.slices=16", Exchange::Off),
            ("train.seq_len=4096 parallel.pipeline=1", Exchange::Off),
            ("train.seq_len=4096 parallel.pipeline=3", Exchange::Off),
            ("train.seq_len=4096 parallel.pipeline=2 parallel.slices=1", Exchange::Off),
            ("train.seq_len=4096 parallel.schedule=seq1f1b", Exchange::Off),
            (
                "train.seq_len=4096 model.hidden_size=4096 model.num_attention_heads=32 model.intermediate_size=11008",
                Exchange::Off,
            ),
            ("train.seq_len=4096 parallel.exchange=paper", Exchange::Paper),
            ("train.seq_len=4096 parallel.exchange=off", Exchange::Off),
        ] {
            assert_eq!(chosen(settings), expected, "{settings}");
        }
    }
}
