//! `slimpipe trace summary`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use slimpipe::allocator::Bytes;
use slimpipe::train::trace::Summary;
use slimpipe::train::trace::summary::{Peak, UnitPlan};

use super::{owners, summaries};

/// Arguments of `trace summary`.
#[derive(clap::Args)]
pub struct Args {
    /// A run's folder, its memory.events, or one rank's log.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Whose memory to look into [default: that of the rank with the highest peak].
    #[arg(long, value_name = "RANK")]
    rank: Option<u32>,
    /// How many owners, call sites, units and layers to name.
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Print one JSON object, with all of them.
    #[arg(long, conflicts_with = "top")]
    json: bool,
}

/// Sums up, and prints it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (mut all, mut warnings) = summaries(&args.path)?;
    if let Some(rank) = args.rank {
        let ranks: Vec<String> = all.iter().map(|summary| summary.rank.to_string()).collect();
        all.retain(|summary| summary.rank == rank);
        if all.is_empty() {
            let (path, ranks) = (args.path.display(), ranks.join(", "));
            anyhow::bail!("--rank {rank}: {path} has no log of that rank; it has ranks {ranks}");
        }
    }
    let uneven = uneven_end(&all);
    if args.json {
        warnings.extend(uneven);
        println!("{}", serde_json::json!({ "logs": all, "warnings": warnings }));
        return Ok(());
    }
    print_ranks(&all);
    print_warnings(&all);
    if let Some(uneven) = uneven {
        println!("\n{uneven}");
    }
    // Of equals the first.
    let highest = all.iter().rev().max_by_key(|summary| summary.active_peak);
    if let Some((summary, peak)) = highest.and_then(|s| Some((s, s.peak.as_ref()?))) {
        print_peak(summary, peak, all.len() > 1);
        owners::print_holders(peak, args.top);
        print_sites(peak, args.top);
        owners::print_units(peak, args.top);
        owners::print_layers(peak, args.top);
        print_regions(summary);
        print_fragmentation(peak);
        print_plans(summary);
    }
    Ok(())
}

pub(super) fn bytes(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

/// `part` of `whole`, in percent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

pub(super) fn plural(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn print_ranks(all: &[Summary]) {
    println!("rank     steps      events     active   reserved    used  in flight  overflow hits");
    for s in all {
        let steps = s.step_range().map_or("-".to_owned(), |(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        println!(
            "{:>4}  {steps:>8}  {:>10}  {:>9}  {:>9}  {:>4.1} %  {:>9}  {:>13}",
            s.rank,
            s.events,
            bytes(s.active_peak),
            bytes(s.reserved_peak),
            percent(s.active_peak, s.reserved_peak),
            s.in_flight_peak,
            s.overflow_hits
        );
    }
}

fn print_peak(summary: &Summary, peak: &Peak, of_many: bool) {
    let when = match peak.step {
        Some(step) => format!("in step {step}"),
        None => "before the first step".to_owned(),
    };
    let what = match (peak.phase, peak.unit) {
        (Some(phase), Some(unit)) => format!(", in the {phase} of {unit}"),
        _ => ", outside units".to_owned(),
    };
    let others = if of_many { " most of all (--rank N shows another)" } else { "" };
    println!(
        "\nrank {} held {}{others}: {when}, after {:.3} s{what}, with {} in flight",
        summary.rank,
        bytes(peak.active),
        peak.seconds,
        plural(peak.in_flight, "unit"),
    );
}

fn print_regions(summary: &Summary) {
    println!("\nregion        at the peak            its own peak   reserved     at the end");
    for r in &summary.regions {
        println!(
            "{:<12}  {:>11}  {:>5.1} %  {:>12}  {:>9}  {:>13}",
            r.region,
            bytes(r.at_peak),
            percent(r.at_peak, summary.active_peak),
            bytes(r.active_peak),
            bytes(r.reserved_peak),
            bytes(r.live_at_end)
        );
    }
}

fn print_fragmentation(peak: &Peak) {
    let lost = &peak.fragmentation;
    println!(
        "\nfragmentation: {} of {} reserved held nothing ({:.1} %; in one piece {}); {} of what was active is padding ({:.1} %)",
        bytes(lost.idle),
        bytes(peak.reserved),
        percent(lost.idle, peak.reserved),
        bytes(lost.longest_idle),
        bytes(lost.padding),
        percent(lost.padding, peak.active)
    );
}

fn print_sites(peak: &Peak, top: usize) {
    println!("\nwhich code made it, of {}", plural(peak.sites.len() as u64, "call site"));
    for s in peak.sites.iter().take(top) {
        println!(
            "{:>10}  {:>5.1} %  {:<45} {:>10}  {}",
            bytes(s.bytes),
            percent(s.bytes, peak.active),
            format!("{}:{}", s.file, s.line),
            plural(s.blocks, "block"),
            s.op
        );
    }
}

fn print_plans(summary: &Summary) {
    if summary.plans.is_empty() {
        return;
    }
    println!("\nplanned                          bytes    held at most");
    for plan in &summary.plans {
        let UnitPlan { chunk, slice, region, planned, held } = plan;
        let whose = match chunk {
            Some(chunk) => format!("{region}, chunk {chunk}, slice {slice} on"),
            None => format!("{region}, all together"),
        };
        let share = percent(*held, *planned);
        println!("{whose:<28} {:>9}  {:>9}  {share:>5.1} %", bytes(*planned), bytes(*held));
    }
}

/// What is out of the ordinary: requests refused, files cut, plans departed from.
fn print_warnings(all: &[Summary]) {
    for s in all {
        let (rank, file) = (s.rank, &s.file);
        for r in &s.refused {
            let step = r.step.map_or(String::new(), |step| format!("in step {step}, "));
            let (bytes, op, site, after) = (bytes(r.bytes), &r.op, &r.site, r.seconds);
            println!(
                "\nrank {rank}: no memory for {bytes}, {step}after {after:.3} s; asked for by {op} at {site}"
            );
        }
        if let Some(at) = s.cut_at {
            println!(
                "\nrank {rank}: {file} ends within a record, at byte {at}: the run was killed, or still writes"
            );
        }
        if s.overflow_hits > 0 {
            let hits = plural(s.overflow_hits, "allocation");
            println!("\nrank {rank}: {hits} that no plan foresaw went to the overflow region");
        }
    }
}

/// Says if ranks do not end in the same step, as those of a whole run do.
fn uneven_end(all: &[Summary]) -> Option<String> {
    // Of a run that was resumed, the last log of each rank counts.
    let ends = all.iter().map(|s| (s.rank, s.step_range().map(|(_, last)| last)));
    let ends: BTreeMap<u32, Option<u64>> = ends.collect();
    let first = ends.iter().min_by_key(|(_, step)| **step)?;
    let last = ends.iter().max_by_key(|(_, step)| **step)?;
    let [(first, from), (last, to)] = [first, last].map(|(rank, step)| {
        (rank, step.map_or("before the first".to_owned(), |step| format!("in {step}")))
    });
    (from != to).then(|| {
        format!(
            "the logs end in different steps (rank {first} {from}, rank {last} {to}): the run was killed or failed, or is still going"
        )
    })
}
