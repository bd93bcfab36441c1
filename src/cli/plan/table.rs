//! Plans, printed.

use serde_json::{Map, Value, json};
use slimpipe::pipeline::schedule::Exchange;
use slimpipe::train::plan::memory::GIB;
use slimpipe::train::plan::{Neighbour, Plan, Site};

use crate::cli::figures::{count, fixed};

/// Memory's terms in the order of the table.
const TERMS: [&str; 8] = ["weights", "optim", "activ", "logits", "unit", "kv", "kv-grad", "peak"];

/// The figures of a plan.
pub fn to_json(plan: &Plan) -> Value {
    figures(plan).into()
}

/// The same with its setup.
pub fn to_json_row(plan: &Plan) -> Value {
    let setup = &plan.setup;
    let mut row = Map::new();
    row.insert("layout".to_owned(), json!(setup.layout.to_string()));
    row.insert("schedule".to_owned(), json!(setup.schedule.name()));
    row.insert("recompute".to_owned(), json!(setup.recompute.name()));
    row.insert("offload".to_owned(), json!(setup.offload));
    row.insert("exchange".to_owned(), json!(setup.exchange.name()));
    row.insert("vocabulary".to_owned(), json!(setup.vocabulary));
    row.extend(figures(plan));
    row.into()
}

fn figures(plan: &Plan) -> Map<String, Value> {
    let mut found = Map::new();
    for (term, bytes) in plan.memory.terms() {
        found.insert(format!("{term}_gib"), json!(bytes / GIB));
    }
    found.insert("bubble_percent".to_owned(), json!(100.0 * plan.bubble));
    found.insert("mfu_percent".to_owned(), json!(100.0 * plan.mfu));
    found.insert("tokens_per_second_per_gpu".to_owned(), json!(plan.speed));
    found
}

fn heading(site: &Site<'_>) {
    let work = site.work;
    println!(
        "{} ({} parameters), {} sequences of {} tokens a step, {} x {}: {:.1} GiB of each for tensors\n",
        work.model.short_name(),
        count(work.model.parameter_count()),
        work.batch,
        work.context,
        work.gpus,
        site.hardware.name,
        site.room() / GIB
    );
}

/// Prints ranked plans.
pub fn print(site: &Site<'_>, plans: &[Plan]) {
    heading(site);
    println!("{:61}{:-^54}", "", " GiB of the GPU that holds most ");
    println!(
        "  #   t   c   p   e   d    n   v  recompute  offload  exchange  vocab  {:>7} {:>6} {:>6} {:>6} {:>5} {:>5} {:>7} {:>6}  bubble    MFU  tokens/s/GPU",
        TERMS[0], TERMS[1], TERMS[2], TERMS[3], TERMS[4], TERMS[5], TERMS[6], TERMS[7]
    );
    for (number, plan) in (1..).zip(plans) {
        let (setup, of) = (&plan.setup, plan.setup.layout);
        let gib = plan.memory.terms().map(|(_, bytes)| bytes / GIB);
        let [weights, optimizer, activations, logits, unit, kv, gradients, peak] = gib;
        println!(
            "{number:>3} {:>3} {:>3} {:>3} {:>3} {:>3} {:>4} {:>3}  {:>9} {:>8} {:>9}  {:>5}  {weights:>7.2} {optimizer:>6.2} {activations:>6.2} {logits:>6.2} {unit:>5.2} {kv:>5.2} {gradients:>7.2} {peak:>6.2} {:>6}% {:>5.1}% {:>13.1}",
            of.tensor,
            of.context,
            of.pipeline,
            of.expert,
            of.data,
            of.slices,
            of.chunks,
            setup.recompute,
            setup.offload,
            setup.exchange.name(),
            if setup.vocabulary { "all" } else { "ends" },
            fixed(100.0 * plan.bubble, 1),
            100.0 * plan.mfu,
            plan.speed,
        );
    }
}

/// Prints one plan in full.
pub fn print_one(site: &Site<'_>, plan: &Plan) {
    heading(site);
    println!("{}", plan.setup);
    let shared = match (plan.setup.vocabulary, plan.setup.exchange) {
        (false, Exchange::Off) => "nothing".to_owned(),
        (false, exchange) => format!("attention ({exchange})"),
        (true, Exchange::Off) => "the vocabulary".to_owned(),
        (true, exchange) => format!("the vocabulary, and attention ({exchange})"),
    };
    println!("pipeline ranks share {shared}\n");
    for (term, (_, bytes)) in TERMS.iter().zip(plan.memory.terms()) {
        println!("{term:<14} {:>8.2} GiB", bytes / GIB);
    }
    if plan.fits() {
        println!("fits           {:>8.2} GiB left", plan.left / GIB);
    } else {
        println!("does not fit   {:>8.2} GiB lacking", -plan.left / GIB);
    }
    println!("\nstep           {:>8.2} s, of an average GPU's:", plan.seconds);
    for (what, seconds) in plan.times() {
        println!("  {what:<13} {:>7} %", fixed(100.0 * seconds / plan.seconds, 1));
    }
    println!("bubble         {:>8} %", fixed(100.0 * plan.bubble, 2));
    println!("MFU            {:>8.1} %", 100.0 * plan.mfu);
    println!("tokens/s/GPU   {:>8.1}", plan.speed);
}

/// Prints why neighbours of `plan` were not chosen.
pub fn print_why(plan: &Plan, neighbours: &[Neighbour]) {
    println!(
        "\n{} with one change (differences of memory in GiB, of time in % of a step):",
        plan.setup
    );
    let width = neighbours.iter().map(|of| of.change.len()).max().unwrap_or(0);
    for Neighbour { change, verdict } in neighbours {
        println!("  {change:<width$}  {verdict}");
    }
}
