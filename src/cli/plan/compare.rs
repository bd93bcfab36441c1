//! `slimpipe plan --compare`: the headline table, as a Markdown page.

use std::time::Instant;

use slimpipe::pipeline::schedule::ScheduleKind;
use slimpipe::train::hardware::Hardware;
use slimpipe::train::plan::memory::GIB;
use slimpipe::train::plan::{
    Accounting, Comparison, Model, Plan, Site, Workload, longest_context, published,
};

/// Compares at the sizes of the SlimPipe paper's evaluation.
pub fn run(model: &Model, hardware: &Hardware, gpu: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    let name = model.short_name();
    println!("# {name} on {}: SlimPipe beside what else there is\n", hardware.name);
    println!("Made by `slimpipe plan --compare --model {name} --gpu {gpu}`. {INTRODUCTION}");
    println!("## 64K to 512K tokens\n\n4 M tokens a step; nothing is offloaded.\n\n{HEADING}");
    let mut plans = Vec::new();
    for context in [64u64, 128, 256, 512] {
        for gpus in [128, 256, 512] {
            let found = rows(model, hardware, context << 10, gpus, None, false)?;
            plans.push((context, gpus, found));
        }
    }
    println!(
        "\n## Two million tokens\n\n8 sequences a step; SlimPipe may offload. The paper reports more than 45 % for it with Llama 70B on 256 GPUs.\n\n{HEADING}"
    );
    let found = rows(model, hardware, 2048 << 10, 256, Some(8), true)?;
    plans.push((2048, 256, found));
    println!(
        "\n## The plans\n\n| context | GPUs | | plan | peak GiB | tokens/s/GPU |\n|---|---|---|---|---|---|"
    );
    for (context, gpus, found) in plans {
        let slimpipe = [("SlimPipe", found.slimpipe)];
        let others = found.baselines.iter().map(|of| (of.name, of.plan));
        for (kind, plan) in slimpipe.into_iter().chain(others) {
            let Some(plan) = plan else { continue };
            let (setup, peak) = (plan.setup, plan.memory.peak / GIB);
            println!("| {context}K | {gpus} | {kind} | {setup} | {peak:.1} | {:.1} |", plan.speed);
        }
    }
    theirs(hardware)?;
    reach(hardware)?;
    eprintln!("compared in {:.1?}", begin.elapsed());
    Ok(())
}

/// What the page is about.
const INTRODUCTION: &str = "Predicted, not measured: [the simulator](../simulator.md) \
says how, with the source of every figure, and where this disagrees with the paper.

*SlimPipe* is the fastest plan with slices that fits. *Megatron* is the fastest of 1F1B and interleaved 1F1B on \
whole sequences, with tensor and (ring) context parallelism and any recomputation. *ZeRO-3* has weights, gradients \
and optimizer dealt to all GPUs and Ulysses over as many GPUs as there are heads, across machines where need be, with any \
recomputation; DeepSpeed users, the paper's authors among them, keep Ulysses in a machine. All are counted with the \
same kernels, the same fused loss and the memory format of slimpipe, which keeps less than Megatron-LM and \
DeepSpeed do: the baselines are better than what one can download.

The *ratio* is the baseline's step time over SlimPipe's. What makes it follows, in parts of a SlimPipe step: the four \
add up to the ratio less 1. *Of it memory* is what the baseline would gain if its GPUs' memory had no end.\n";

const HEADING: &str = "\
| context | GPUs | SlimPipe MFU | against | its MFU | ratio | recompute | bubble | communication | kernels | of it memory |
|---|---|---|---|---|---|---|---|---|---|---|";

fn rows(
    model: &Model,
    hardware: &Hardware,
    context: u64,
    gpus: u32,
    batch: Option<u32>,
    offload: bool,
) -> anyhow::Result<Comparison> {
    let work = Workload::new(model.clone(), context, batch, gpus)?;
    let site = Site { work: &work, hardware, accounting: Accounting::Runtime };
    let found = site.compare(offload)?;
    let mfu = |plan: &Option<Plan>| match plan {
        Some(plan) => format!("{:.1} %", 100.0 * plan.mfu),
        None => "none fits".to_owned(),
    };
    let slimpipe = mfu(&found.slimpipe);
    for of in &found.baselines {
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
        let (context, theirs) = (context >> 10, mfu(&of.plan));
        println!("| {context}K | {gpus} | {slimpipe} | {} | {theirs} | {gain} |", of.name);
    }
    Ok(found)
}

/// The paper's own configurations.
fn theirs(hardware: &Hardware) -> anyhow::Result<()> {
    println!("\n## The configurations of the paper\n");
    println!(
        "Llama 70B on 128 GPUs as the authors ran it (their artifact), simulated with equal kernels: SlimPipe with the paper's exchange, Megatron-LM interleaved. The paper's largest measured ratio is 1.57, at 512K.\n"
    );
    println!(
        "| context | SlimPipe MFU | Megatron MFU | ratio | SlimPipe | Megatron |\n|---|---|---|---|---|---|"
    );
    for (context, slimpipe, megatron) in published(hardware)? {
        println!(
            "| {}K | {:.1} % | {:.1} % | {:.2} | {} | {} |",
            context >> 10,
            100.0 * slimpipe.mfu,
            100.0 * megatron.mfu,
            slimpipe.mfu / megatron.mfu,
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
        "Llama 7B, tensor 8, pipeline 8, nothing recomputed or offloaded: the setting of Fig. 2. The paper's ratios are SlimPipe's context over the others'; which of two is V-Half's and which ZB-V's is not said in words.\n"
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
