//! What memory says of itself.

use slimpipe_allocator::{Gauge, Region, UnitUsage, Usage, allocate, scope};

use crate::rig::Rig;
use crate::unit::*;

pub fn peaks_are_kept_until_they_are_reset(rig: &Rig) {
    let memory = planned(rig.memory());
    let (unit, saved) = run_forward(&memory, 0);
    run_backward(unit, saved);
    let stats = memory.stats();
    assert_eq!(stats.region(Region::Slot).active, Gauge { current: 0, peak: SLOT_BYTES });
    let asked = SLOT_BYTES - 128 + EMBEDDED;
    assert_eq!(stats.region(Region::Slot).requested, Gauge { current: 0, peak: asked });
    assert_eq!(stats.region(Region::Transient).active.peak, SCORES + GATE);
    assert_eq!(stats.activations, Gauge { current: 0, peak: SLOT_BYTES + KV_BYTES });
    assert_eq!(stats.units_in_flight, Gauge { current: 0, peak: 1 });
    // The highest moment is in the last layer, whose saved block is made while the scores live.
    assert_eq!(stats.total.active.peak, SLOT_BYTES + KV_BYTES + SCORES + GATE);

    drop(run_forward(&rig.memory(), 0)); // another memory has its own figures
    assert_eq!(memory.stats(), stats);
    memory.reset_peaks();
    let stats = memory.stats();
    let usages = stats.regions.iter().chain([&stats.total]);
    for gauge in usages.flat_map(|usage| [usage.requested, usage.active, usage.reserved]) {
        assert_eq!(gauge.peak, gauge.current);
    }
    assert_eq!((stats.activations.peak, stats.units_in_flight.peak), (0, 0));
}

pub fn each_unit_has_its_own_figures(rig: &Rig) {
    let memory = planned(rig.memory());
    let (first, mut saved) = run_forward(&memory, 0);
    let second = memory.unit(id(1)).unwrap();
    drop(saved.drain(..2)); // the embedding and a layer's keys
    let fixed = |bytes| Gauge { current: bytes, peak: bytes };
    let gauge = |peak: u64, gone: u64| Gauge { current: peak - gone, peak };
    let asked = SLOT_BYTES - 128 + EMBEDDED;
    let usages = [
        UnitUsage {
            unit: id(0),
            slot: Usage {
                requested: gauge(asked, EMBEDDED),
                active: gauge(SLOT_BYTES, 128),
                reserved: fixed(SLOT_BYTES),
            },
            kv: Usage {
                requested: gauge(KV_BYTES, KV),
                active: gauge(KV_BYTES, KV),
                reserved: fixed(KV_BYTES),
            },
        },
        UnitUsage {
            unit: id(1),
            slot: Usage { reserved: fixed(SLOT_BYTES), ..Usage::default() },
            kv: Usage { reserved: fixed(KV_BYTES), ..Usage::default() },
        },
    ];
    assert_eq!(memory.units(), usages);
    assert_eq!([first.usage(), second.usage()], usages);
    drop((first, second));
    assert_eq!(memory.units(), []);
}

pub fn owners_are_sorted_and_add_up_to_what_is_live(rig: &Rig) {
    let memory = planned(rig.memory());
    let _entered = memory.enter();
    let persistent = {
        let _place = scope::place(Region::Persistent);
        ["b", "a", "a", "big"].map(|op| allocate(if op == "big" { 10_000 } else { 64 }, op))
    };
    let (unit, saved) = run_forward(&memory, 0);
    let owners = memory.owners(usize::MAX);
    assert_eq!(
        owners.iter().map(|owner| owner.bytes.0).sum::<u64>(),
        memory.stats().total.active.current
    );
    assert!(owners.is_sorted_by(|a, b| a.bytes >= b.bytes));
    assert_eq!((owners[0].op, owners[0].bytes.0, owners[0].unit), ("big", 10_048, None));
    // Equal ones are in the order of their units, layers and names.
    let layers: Vec<_> = owners.iter().filter(|owner| owner.op == "mlp").collect();
    let expected: Vec<_> = (0..LAYERS).map(|layer| (Some(id(0)), Some(layer), 3, 1)).collect();
    let found: Vec<_> =
        layers.iter().map(|owner| (owner.unit, owner.layer, owner.rank, owner.blocks)).collect();
    assert_eq!(found, expected);
    let a = owners.iter().find(|owner| owner.op == "a").unwrap();
    assert_eq!((a.bytes.0, a.blocks, a.region), (128, 2, Region::Persistent));
    assert_eq!(memory.owners(3), owners[..3]);
    assert_eq!(memory.owners(0), []);
    run_backward(unit, saved);
    drop(persistent);
}

pub fn what_nothing_needs_is_released(rig: &Rig) {
    let memory = planned(rig.memory());
    let _entered = memory.enter();
    let kept = {
        let _place = scope::place(Region::Persistent);
        let kept = allocate(100_000, "kept").unwrap();
        drop(allocate(1 << 20, "dropped").unwrap());
        kept
    };
    let (unit, saved) = run_forward(&memory, 0);
    assert!(memory.stats().region(Region::Persistent).reserved.current > 1 << 20);
    memory.release();
    assert!(memory.stats().region(Region::Persistent).reserved.current < 200_000);
    assert!(memory.stats().region(Region::Slot).reserved.current >= SLOT_BYTES);
    run_backward(unit, saved);
    let before = memory.stats();
    memory.release();
    let after = memory.stats();
    assert_eq!(after.total.active, before.total.active);
    assert!(after.total.reserved.current < before.total.reserved.current);
    // One page at most is not needed whole.
    assert!(after.total.reserved.current < after.total.active.current + 65_536);
    assert_eq!(after.total.reserved.current, after.region(Region::Persistent).reserved.current);
    drop(kept);
    memory.release();
    assert_eq!(memory.stats().total.reserved.current, 0);
}
