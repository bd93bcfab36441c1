//! `slimpipe trace diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use slimpipe::allocator::Bytes;
use slimpipe::train::trace::{Change, Diff, Summary, diff};

use super::summaries;

/// Arguments of `trace diff`.
#[derive(clap::Args)]
pub struct Args {
    /// The first run: its folder, its memory.events, or one rank's log.
    before: PathBuf,
    /// The second.
    after: PathBuf,
    /// Changes up to this many percent of a rank's peak do not count.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    threshold: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let possible = percent.is_finite() && percent >= 0.0;
    if possible { Ok(percent) } else { Err("a threshold is 0 percent or more".to_owned()) }
}

/// Compares, and prints what changed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let ((before, mut warnings), (after, more)) =
        (summaries(&args.before)?, summaries(&args.after)?);
    warnings.extend(more);
    let Diff { only_before, only_after, changes } = diff(&before, &after);
    if only_before.len() == ranks(&before).len() {
        let [before, after] = [(&args.before, &before), (&args.after, &after)]
            .map(|(path, all)| format!("{} has {}", path.display(), named(&ranks(all))));
        anyhow::bail!("there is no rank to compare: {before}, {after}");
    }
    let counts = |change: &&Change| !change.is_timing && change.percent.abs() > args.threshold;
    let counted: Vec<_> = changes.iter().filter(counts).collect();
    let changed = !counted.is_empty() || !only_before.is_empty() || !only_after.is_empty();
    if args.json {
        println!(
            "{}",
            json!({
                "threshold_percent": args.threshold,
                "changed": changed,
                "only_before": only_before,
                "only_after": only_after,
                "changes": changes,
                "warnings": warnings,
            })
        );
    } else {
        for (only, path) in [(&only_before, &args.before), (&only_after, &args.after)] {
            match only.len() {
                0 => {}
                1 => println!("{} is only in {}", named(only), path.display()),
                _ => println!("{} are only in {}", named(only), path.display()),
            }
        }
        print(args, &changes, &counted);
    }
    Ok(ExitCode::from(u8::from(changed)))
}

fn ranks(all: &[Summary]) -> Vec<u32> {
    let mut ranks: Vec<_> = all.iter().map(|summary| summary.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

/// `rank 2`, `ranks 2, 3`.
fn named(ranks: &[u32]) -> String {
    let numbers: Vec<_> = ranks.iter().map(u32::to_string).collect();
    format!("rank{} {}", if ranks.len() == 1 { "" } else { "s" }, numbers.join(", "))
}

fn print(args: &Args, changes: &[Change], counted: &[&Change]) {
    let threshold = args.threshold;
    match counted {
        [] => println!("nothing changed by more than {threshold} % of a rank's peak"),
        [_] => println!("1 change of more than {threshold} % of its rank's peak:"),
        more => println!("{} changes of more than {threshold} % of their rank's peak:", more.len()),
    }
    for change in counted {
        println!("  {:<44}  rank {}  {}", name(change), change.rank, numbers(change));
    }
    let below = changes.len() - counted.len();
    if below > 0 {
        println!(
            "{below} smaller changes, or of messages, which depend on timing (--json has all)"
        );
    }
}

/// Who changed: `transient, layer 3, matmul`.
fn name(change: &Change) -> String {
    let owner = &change.owner;
    let Some(region) = owner.region else { return "total (without messages)".to_owned() };
    let mut name = region.to_owned();
    if let Some(layer) = owner.layer {
        name += &format!(", layer {layer}");
    }
    name + &owner.op.as_ref().map_or(", all of it".to_owned(), |op| format!(", {op}"))
}

fn numbers(change: &Change) -> String {
    let [before, after] = [change.before, change.after].map(|bytes| Bytes(bytes).to_string());
    format!("{before:>10} -> {after:>10}  {:>+7.1} %", change.percent)
}
