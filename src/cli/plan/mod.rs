//! `slimpipe plan`.

mod compare;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use slimpipe::pipeline::schedule::ScheduleKind;
use slimpipe::train::hardware::Hardware;
use slimpipe::train::model::Recompute;
use slimpipe::train::plan::{Accounting, Layout, Model, Plan, Setup, Site, Space, Workload};

use crate::cli::flags::in_flags;
use crate::cli::output;

/// The settings that schedules name, by what they are called here.
const AXES: [(&str, &str); 5] = [
    ("parallel.pipeline", "p"),
    ("parallel.slices", "n"),
    ("parallel.chunks", "v"),
    ("parallel.schedule", "--schedule"),
    ("train.microbatches", "--batch over d"),
];

/// Arguments of `plan`.
#[derive(clap::Args)]
pub struct Args {
    /// A model that comes along (llama-7b, llama-13b, llama-70b, llama-149b, mixtral-8x7b,
    /// mixtral-8x22b), or the path of a Hugging Face config.json.
    #[arg(
        long,
        required_unless_present = "compare",
        default_value_if("compare", "true", "llama-70b")
    )]
    model: Option<String>,
    /// Tokens in a sequence: 65536, 64K, 1M.
    #[arg(long, value_name = "TOKENS", value_parser = Workload::parse_context)]
    #[arg(required_unless_present = "compare")]
    context: Option<u64>,
    /// GPUs.
    #[arg(long, required_unless_present = "compare")]
    gpus: Option<u32>,
    /// What they are: h100-80g, h800-80g, h200-141g, or the path of a TOML file.
    #[arg(long, value_name = "NAME", default_value = "h800-80g")]
    gpu: String,
    /// Sequences in a step; those of 4 M tokens unless set.
    #[arg(long, value_name = "SEQUENCES")]
    batch: Option<u32>,
    /// Evaluate this layout instead of searching: t=2,c=4,p=8,e=1,d=4,n=8,v=10.
    #[arg(long, value_name = "AXES")]
    layout: Option<Layout>,
    /// The layout's schedule.
    #[arg(long, requires = "layout", default_value = "slimpipe")]
    schedule: ScheduleKind,
    /// What its backward computes again: none, partial or full.
    #[arg(long, value_name = "HOW", requires = "layout", default_value = "none")]
    recompute: Recompute,
    /// The share of its activations that waits in the host's memory.
    #[arg(long, value_name = "SHARE", requires = "layout", default_value_t = 0.0, value_parser = share)]
    offload: f64,
    /// Whose memory is counted: `runtime`, what slimpipe holds, or `paper`, as SlimPipe's authors plan.
    #[arg(long, value_name = "WHOSE", default_value = "runtime")]
    accounting: Accounting,
    /// Plans to print.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    top: u32,
    /// The plan, by its number in the table, that is written or explained.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pick: u32,
    /// Write the plan's settings for `slimpipe train`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Search only what `slimpipe train` runs today.
    #[arg(long, conflicts_with = "layout")]
    runnable: bool,
    /// Explain what becomes of the plan if one setting changes.
    #[arg(long, conflicts_with = "json")]
    why: bool,
    /// Compare SlimPipe with Megatron-style pipelines and ZeRO-3 with Ulysses, at 64K to 2M tokens on 128 to
    /// 512 GPUs, as a Markdown page.
    #[arg(long, conflicts_with_all = ["context", "gpus", "batch", "layout", "out", "why", "json", "runnable"])]
    compare: bool,
    /// Print JSON: an object for a layout, a list for a search.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is between 0 and 1".to_owned())
}

/// Plans a run.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let hardware = Hardware::open(&args.gpu)?;
    let model = Model::open(args.model.as_deref().unwrap_or("llama-70b"))?;
    if args.compare {
        return compare::run(&model, &hardware, &args.gpu);
    }
    let (Some(context), Some(gpus)) = (args.context, args.gpus) else {
        bail!("--context and --gpus say what to plan for");
    };
    let work = Workload::new(model, context, args.batch, gpus)?;
    let site = Site { work: &work, hardware: &hardware, accounting: args.accounting };
    match args.layout {
        Some(layout) => one(args, &site, layout),
        None => search(args, &site),
    }
}

/// Evaluates a given layout.
fn one(args: &Args, site: &Site<'_>, layout: Layout) -> anyhow::Result<()> {
    layout.check(site.work)?;
    let setup = Setup::new(layout, args.schedule).shared(site.work);
    let setup = Setup { recompute: args.recompute, offload: args.offload, ..setup };
    let plan = in_flags(site.plan(&setup), &AXES)?;
    if args.json {
        println!("{}", table::to_json(&plan));
    } else {
        table::print_one(site, &plan);
    }
    finish(args, site, &plan)
}

fn search(args: &Args, site: &Site<'_>) -> anyhow::Result<()> {
    let begin = Instant::now();
    let space = Space { runnable: args.runnable, ..Space::slimpipe() };
    let found = site.search(&space, args.top.max(args.pick) as usize)?;
    let Some(plan) = found.plans.get(args.pick as usize - 1) else {
        match found.plans.len() {
            0 => return Err(site.nothing_fits(found.closest).into()),
            count => bail!("--pick is {}, but {count} plans fit", args.pick),
        }
    };
    let shown = &found.plans[..found.plans.len().min(args.top as usize)];
    if args.json {
        let rows: Vec<_> = shown.iter().map(table::to_json_row).collect();
        println!("{}", serde_json::Value::from(rows));
    } else {
        table::print(site, shown);
        println!(
            "\n{} setups considered, {} fit, {} simulated, in {:.1?}",
            found.considered,
            found.fitting,
            found.simulated,
            begin.elapsed()
        );
    }
    finish(args, site, plan)
}

/// Explains and writes `plan`.
fn finish(args: &Args, site: &Site<'_>, plan: &Plan) -> anyhow::Result<()> {
    if args.why {
        table::print_why(plan, &site.why(plan));
    }
    if let Some(path) = &args.out {
        let text = plan.setup.file(site, &path.display().to_string());
        let mut file = output::create(path, &[path; 0])?;
        file.write_all(text.as_bytes()).map_err(output::cannot_write(path))?;
        eprintln!("{} holds the settings of {}", path.display(), plan.setup);
        if let Err(why) = plan.setup.check_trained(site) {
            eprintln!(
                "warning: slimpipe train cannot run this yet: {why}; a search with --runnable finds the best of what it can"
            );
        }
    }
    Ok(())
}
