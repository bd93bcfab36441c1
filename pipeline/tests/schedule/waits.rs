//! What ranks wait for beside inputs and gradients: owners and helpers of an exchange, collectives.

use slimpipe_pipeline::schedule::{Action, Part, Pass, ScheduleError, Unit};
use slimpipe_pipeline::simulate::{
    Costs, Growing, Layers, Link, Outcome, Shipment, simulate_programs,
};

const UNIT: Unit = Unit { microbatch: 0, slice: 2, chunk: 0 };
const FIRST: Unit = Unit { microbatch: 0, slice: 0, chunk: 0 };

/// A forward takes 10 and 2 for every half chunk, and messages of an exchange take so long.
struct Slow {
    units: Growing,
    link: [Link; 3],
    collective: f64,
}

impl Slow {
    fn new(layers: usize) -> Self {
        let [forward, backward, attention, projections] = [10.0, 20.0, 4.0, 0.2];
        let units = Growing { forward, backward, attention, layers: Some(layers), projections };
        Self { units, link: [Link::default(); 3], collective: 0.0 }
    }
}

impl Costs for Slow {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        match action {
            Action::VocabEmbed(_) | Action::VocabHead(_) | Action::VocabEmbedBackward(_) => 3.0,
            _ => self.units.seconds(rank, action),
        }
    }

    fn layers(&self, rank: u32, action: Action) -> Option<Layers> {
        self.units.layers(rank, action)
    }

    fn link(&self, _: u32, _: u32, _: Action) -> Link {
        Link { occupied: self.collective, latency: 0.0 }
    }

    fn exchange_link(&self, _: u32, _: u32, _: Action, what: Shipment) -> Link {
        self.link[what as usize]
    }
}

fn run(programs: [Vec<Action>; 2], costs: &Slow) -> Result<Outcome, ScheduleError> {
    simulate_programs(programs, 1, costs, &mut ())
}

/// Rank 0 runs slice 2 and lets rank 1, with slice 0, attend to its first three half chunks.
fn exchange() -> [Vec<Action>; 2] {
    let (part, pass) = (Part { start: 0, end: 3 }, Pass::Forward);
    [
        vec![Action::Ship { unit: UNIT, part, to: 1, pass }, Action::Forward(UNIT)],
        vec![Action::Attend { unit: UNIT, part, from: 0, pass }, Action::Forward(FIRST)],
    ]
}

#[test]
fn an_owner_waits_for_its_helpers_in_every_layer() {
    // Per layer the owner runs 1 before, 2 of 5 half chunks, the rest after; the helper one half chunk
    // of its own and three for the owner: it has the partial result after 1 + 1 + 3.
    let found = run(exchange(), &Slow::new(2)).unwrap();
    assert_eq!(found.ranks[1].end, 2.0 * (1.0 + 1.0 + 3.0 + 4.0));
    assert_eq!(found.ranks[0].end, 2.0 * (1.0 + 1.0 + 3.0 + 4.0));
    assert_eq!([found.ranks[0].busy, found.ranks[1].busy], [10.0 + 4.0, 10.0 + 8.0]);
}

#[test]
fn messages_of_an_exchange_hide_behind_computation_until_they_are_slower() {
    let keys = |occupied| {
        let mut costs = Slow::new(2);
        costs.link[Shipment::Keys as usize].occupied = occupied;
        run(exchange(), &costs).unwrap().makespan
    };
    let hidden = keys(0.0);
    // They leave before what comes before attention, and after the attention of the layer before.
    assert_eq!(keys(2.0), hidden);
    assert!(keys(6.0) > hidden);
    let mut late = Slow::new(1);
    late.link[Shipment::Partial as usize].latency = 5.0;
    let found = run(exchange(), &late).unwrap();
    assert_eq!(found.ranks[1].end, 18.0);
    assert_eq!(found.ranks[0].end, 2.0 + 2.0 + 6.0 + 5.0 + 8.0);
}

#[test]
fn an_exchange_whose_other_side_is_missing_is_a_deadlock() {
    let [owner, _] = exchange();
    let error = run([owner, vec![Action::Forward(FIRST)]], &Slow::new(2)).unwrap_err();
    assert!(error.to_string().contains("rank 0 at action 1 (F0.2:0)"), "{error}");
}

#[test]
fn the_first_rank_waits_for_embeddings_the_others_for_its_gradient_and_all_for_the_loss() {
    let costs = Slow { collective: 1.0, ..Slow::new(1) };
    let before =
        |action| run([vec![action], vec![Action::Forward(FIRST), action]], &costs).unwrap();
    let ends = |found: Outcome| [found.ranks[0].end, found.ranks[1].end];
    // Rank 1 first runs a unit of 12; a collective takes 1 and computes for 3.
    assert_eq!(ends(before(Action::VocabEmbed(UNIT))), [16.0, 16.0]);
    assert_eq!(ends(before(Action::VocabHead(UNIT))), [16.0, 16.0]);
    assert_eq!(ends(before(Action::VocabEmbedBackward(UNIT))), [4.0, 16.0]);
    let after = |action| run([vec![Action::Forward(FIRST), action], vec![action]], &costs).unwrap();
    assert_eq!(ends(after(Action::VocabEmbed(UNIT))), [16.0, 4.0]);
    assert_eq!(ends(after(Action::VocabHead(UNIT))), [16.0, 16.0]);
    assert_eq!(ends(after(Action::VocabEmbedBackward(UNIT))), [16.0, 16.0]);
}

#[test]
fn collectives_of_a_kind_meet_in_their_order_and_a_missing_one_is_a_deadlock() {
    let [embed, head] = [Action::VocabEmbed(UNIT), Action::VocabHead(UNIT)];
    // Rank 1 is ahead by two embeddings: it need not wait for them.
    let programs = [vec![Action::Forward(FIRST), embed, embed, head], vec![embed, embed, head]];
    let found = run(programs, &Slow::new(1)).unwrap();
    assert_eq!([found.ranks[0].end, found.ranks[1].end], [21.0, 21.0]);
    let error = run([vec![head, head], vec![head]], &Slow::new(1)).unwrap_err();
    assert!(error.to_string().contains("rank 0 at action 1 (vh0.2:0)"), "{error}");
}
