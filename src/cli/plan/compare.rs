//! `slimpipe plan --compare`: the headline table, as a Markdown page.

use std::time::Instant;

use slimpipe::pipeline::schedule::ScheduleKind;
use slimpipe::train::hardware::Hardware;
use slimpipe::train::plan::memory::GIB;
use slimpipe::train::plan::{
    Accounting, Baseline, Comparison, Gain, Model, Plan, Site, Workload, longest_context, published,
};

/// Compares at the sizes of the SlimPipe paper's evaluation.
pub fn run(model: &Model, hardware: &Hardware, gpu: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    let name = model.short_name();
    println!("# {name} on {}: SlimPipe beside what else there is\n", hardware.name);
    println!("Made by `slimpipe plan --compare --model {name} --gpu {gpu}`. {INTRODUCTION}");
    let mut all = Vec::new();
    for context in [64u64, 128, 256, 512] {
        for gpus in [128, 256, 512] {
            all.push(Row::new(model, hardware, context, gpus, None, false)?);
        }
    }
    let far = [Row::new(model, hardware, 2048, 256, Some(8), true)?];
    println!("{AS_THEY_ARE}\n{HEADING}");
    all.iter().for_each(|row| row.print(&row.found.as_they_are));
    println!("{AS_THEY_COULD_BE}\n{HEADING}");
    all.iter().for_each(|row| row.print(&row.found.as_they_could_be));
    println!("{FAR}\n{HEADING}");
    far.iter().for_each(|row| row.print(&row.found.as_they_are));
    far.iter().for_each(|row| row.print(&row.found.as_they_could_be));
    println!(
        "\n## The plans\n\n| context | GPUs | | plan | peak GiB | tokens/s/GPU |\n|---|---|---|---|---|---|"
    );
    all.iter().chain(&far).for_each(Row::print_plans);
    theirs(hardware)?;
    reach(hardware)?;
    eprintln!("compared in {:.1?}", begin.elapsed());
    Ok(())
}

/// What the page is about.
const INTRODUCTION: &str = "Predicted, not measured: [the simulator](../simulator.md) \
says how, with the source of every figure, and where this disagrees with the paper.

*SlimPipe* is the fastest plan with slices that fits. A *ratio* is the other's step time over SlimPipe's. What makes \
it follows, in parts of a SlimPipe step: recompute, bubble, communication and kernels add up to the ratio less 1. *Of it \
memory* is what the other would gain if its GPUs' memory had no end. All run the same kernels and have the fused loss.\n";

const AS_THEY_ARE: &str = "## Beside what can be downloaded

4 M tokens a step; nothing is offloaded. *Megatron-LM*: the fastest of 1F1B and interleaved 1F1B on whole sequences, \
with tensor and (ring) context parallelism and any recomputation, keeping what the paper's authors count for it. \
*DeepSpeed*: ZeRO-3 with Ulysses in a machine and whole layers recomputed, as they ran it.\n";

const AS_THEY_COULD_BE: &str = "\n## Beside the same ideas, as well made

Both with slimpipe's memory format, which keeps two thirds of what Megatron-LM keeps; ZeRO-3 with any recomputation, \
Ulysses over up to as many GPUs as there are heads, across machines, and all of its traffic hidden where it can be.\n";

const FAR: &str = "\n## Two million tokens

8 sequences a step; SlimPipe may offload. The paper reports more than 45 % for it with Llama 70B on 256 GPUs.\n";

const HEADING: &str = "\
| context | GPUs | SlimPipe MFU | against | its MFU | ratio | recompute | bubble | communication | kernels | of it memory |
|---|---|---|---|---|---|---|---|---|---|---|";

/// A workload and what was found for it.
struct Row {
    /// K tokens.
    context: u64,
    gpus: u32,
    found: Comparison,
}

fn percent(plan: Option<&Plan>) -> String {
    plan.map_or("none fits".to_owned(), |plan| format!("{:.1} %", 100.0 * plan.mfu))
}

impl Row {
    fn new(
        model: &Model,
        hardware: &Hardware,
        context: u64,
        gpus: u32,
        batch: Option<u32>,
        offload: bool,
    ) -> anyhow::Result<Self> {
        let work = Workload::new(model.clone(), context << 10, batch, gpus)?;
        let site = Site { work: &work, hardware, accounting: Accounting::Runtime };
        Ok(Self { context, gpus, found: site.compare(offload)? })
    }

    fn print(&self, baselines: &[Baseline]) {
        let Self { context, gpus, found } = self;
        let slimpipe = percent(found.slimpipe.as_ref());
        for of in baselines {
            let gain = match found.slimpipe.and_then(|slimpipe| of.gain(&slimpipe)) {
                Some(gain) => format!(
                    "**{:.2}** | {:+.2} | {:+.2} | {:+.2} | {:+.2} | {:.2}",
                    gain.ratio,
                    gain.recompute,
                    gain.bubble,
                    gain.communication,
                    gain.kernels,
                    gain.memory
                ),
                None => "| | | | |".to_owned(),
            };
            let (name, theirs) = (of.name, percent(of.plan.as_ref()));
            println!("| {context}K | {gpus} | {slimpipe} | {name} | {theirs} | {gain} |");
        }
    }

    fn print_plans(&self) {
        let Self { context, gpus, found } = self;
        let others = found.as_they_are.iter().chain(&found.as_they_could_be);
        let others = others.map(|of| (of.name, of.plan));
        for (kind, plan) in [("SlimPipe", found.slimpipe)].into_iter().chain(others) {
            let Some(plan) = plan else { continue };
            let (setup, peak) = (plan.setup, plan.memory.peak / GIB);
            println!("| {context}K | {gpus} | {kind} | {setup} | {peak:.1} | {:.1} |", plan.speed);
        }
    }
}

/// The paper's own configurations.
fn theirs(hardware: &Hardware) -> anyhow::Result<()> {
    println!("\n## The configurations of the paper\n");
    println!(
        "Llama 70B on 128 GPUs as the authors ran it (their artifact), simulated with equal kernels: SlimPipe with the paper's exchange, Megatron-LM interleaved. The paper's largest measured ratio is 1.57, at 512K.\n"
    );
    println!(
        "| context | SlimPipe MFU | Megatron MFU | ratio | recompute | bubble | communication | kernels | SlimPipe | Megatron |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (context, slimpipe, megatron) in published(hardware)? {
        let Gain { ratio, recompute, bubble, communication, kernels, .. } =
            Gain::of(&slimpipe, &megatron);
        println!(
            "| {}K | {} | {} | **{ratio:.2}** | {recompute:+.2} | {bubble:+.2} | {communication:+.2} | {kernels:+.2} | {} | {} |",
            context >> 10,
            percent(Some(&slimpipe)),
            percent(Some(&megatron)),
            slimpipe.setup,
            megatron.setup
        );
    }
    Ok(())
}

/// Longest contexts beside those of Fig. 2 of the paper.
fn reach(hardware: &Hardware) -> anyhow::Result<()> {
    println!("\n## Longest context\n");
    println!(
        "Llama 7B, tensor 8, pipeline 8, nothing recomputed or offloaded: the setting of Fig. 2. The paper's ratios are SlimPipe's context over the others'; its caption gives 8.3, 5.4, 4.8 and 6.5 without saying in words which is ZB-V's and which V-Half's.\n"
    );
    println!(
        "| schedule | longest | SlimPipe's over it | in the paper | by the paper's accounting |\n|---|---|---|---|---|"
    );
    let of = |kind, accounting| longest_context(kind, accounting, hardware);
    let slimpipe = of(ScheduleKind::SlimPipe, Accounting::Runtime)?;
    let by_paper = of(ScheduleKind::SlimPipe, Accounting::Paper)?;
    for (kind, paper) in [
        (ScheduleKind::SlimPipe, "1"),
        (ScheduleKind::OneFOneB, "4.8"),
        (ScheduleKind::Interleaved, "6.5"),
        (ScheduleKind::VHalf, "5.4"),
        (ScheduleKind::ZbV, "8.3"),
    ] {
        let longest = of(kind, Accounting::Runtime)?;
        let counted = match of(kind, Accounting::Paper) {
            Ok(longest) => format!("{}K, {:.1}", longest >> 10, by_paper as f64 / longest as f64),
            Err(_) => "not counted".to_owned(),
        };
        let ratio = slimpipe as f64 / longest as f64;
        println!("| {kind} | {}K | {ratio:.1} | {paper} | {counted} |", longest >> 10);
    }
    Ok(())
}
