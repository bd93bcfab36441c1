//! `slimpipe trace diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use slimpipe::allocator::Bytes;
use slimpipe::train::trace::{Change, diff};

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
    let changes = diff(&before, &after);
    let counts = |change: &&Change| !change.is_timing && change.percent.abs() > args.threshold;
    let counted: Vec<_> = changes.iter().filter(counts).collect();
    if args.json {
        let (threshold, changed) = (args.threshold, !counted.is_empty());
        println!(
            "{}",
            json!({ "threshold_percent": threshold, "changed": changed, "changes": changes, "warnings": warnings })
        );
    } else {
        print(args, &changes, &counted);
    }
    Ok(ExitCode::from(u8::from(!counted.is_empty())))
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
    let Some(region) = owner.region else { return "all but messages".to_owned() };
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
