//! What training costs on a GPU besides its work, as the mock driver counts it.

use std::sync::Mutex;

use slimpipe::kernels::cuda::compile::{self, ImageKind};
use slimpipe::train::Config;
use slimpipe::train::data::Tokens;
use slimpipe::train::metrics::StepMetrics;
use slimpipe::train::trainer::{Observer, train};
use slimpipe_mock::{Counters, Library};

const SETTINGS: &str = "
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
[train]
device = 'cuda'
seq_len = 32
steps = 3
warmup_steps = 0
[parallel]
pipeline = 2
slices = 2
";

/// Notes the driver's counters after each step, on rank 0.
struct Counts<'a>(&'a Library, Mutex<Vec<Counters>>);

impl Observer for Counts<'_> {
    fn step(&self, _: &StepMetrics) {
        self.1.lock().unwrap().push(self.0.counters());
    }
}

#[test]
fn after_the_first_step_the_device_is_never_waited_for_and_the_driver_never_asked_for_memory() {
    if let Err(why) = compile::available() {
        eprintln!("skipped: {why}");
        return;
    }
    slimpipe_mock::nccl();
    let mock = slimpipe_mock::driver();
    ImageKind::Ptx.choose();
    for settings in [
        &["train.microbatches=3", "parallel.vocabulary=false"][..],
        &["train.microbatches=3", "parallel.vocabulary=true"],
        &["train.dtype=bf16", "parallel.exchange=balanced", "parallel.vocabulary=true"],
        &["memory.offload=0.5", "memory.recompute=full"],
        &["parallel.schedule=zb-h1", "parallel.slices=1", "train.microbatches=2"],
        &["train.device=cuda:0,1", "parallel.exchange=balanced", "parallel.vocabulary=true"],
        &["train.device=cuda:0,1,2,3", "parallel.data=2", "memory.offload=0.5"],
    ] {
        let settings = settings.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let job = Config::parse(SETTINGS, &settings).unwrap().resolve().unwrap();
        let tokens = Tokens::from_ids((0..1000).map(|i| i * 7 % 250).collect());
        let counts = Counts(mock, Mutex::default());
        train(&job, &tokens, None, &counts).unwrap();
        let counts = counts.1.into_inner().unwrap();
        // Another rank may be at its end when rank 0 is through the third step.
        let steady = counts[1].since(&counts[0]);
        assert_eq!(steady.allocations(), 0, "{settings:?}: {steady}");
        for how in ["context", "implicit"] {
            let waits = steady.get(&format!("synchronisations.{how}"));
            assert_eq!(waits, 0, "{settings:?}: {how}: {steady}");
        }
        // The losses, and each rank's part of the gradients' norm, which is not known before the step's end.
        let reads = u64::from(job.schedule.data_ranks() + job.mesh().size());
        assert!(steady.synchronisations() <= reads + 1, "{settings:?}: {steady}");
    }
}
