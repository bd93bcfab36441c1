//! Where blocks go.

use std::cell::RefCell;

use slimpipe_allocator::{Allocation, Recorder, Region, allocate, allocate_meta, scope};

use crate::rig::Rig;
use crate::unit::{self, *};

/// The order of what `forward` makes in a layer: keys, values, scores, saved, gate.
const FORWARD: [Region; 5] =
    [Region::Kv, Region::Kv, Region::Transient, Region::Slot, Region::Transient];

pub fn units_of_a_plan_use_the_same_places_again(rig: &Rig) {
    let memory = planned(rig.memory());
    let runs = [0, 1, 2].map(|slice| {
        let places = RefCell::new(Vec::new());
        let noted = |bytes, op| {
            let made = allocate(bytes, op)?;
            places.borrow_mut().push((made.region(), span(&made)));
            Ok(made)
        };
        let unit = memory.unit(id(slice)).unwrap();
        let saved = within(unit.forward(), || forward(&noted).unwrap());
        within(unit.backward(), || backward(saved, &noted).unwrap());
        (places.into_inner(), memory.stats().total.reserved.current)
    });
    assert!(runs.iter().all(|run| *run == runs[0]));
    let regions: Vec<Region> = runs[0].0.iter().map(|place| place.0).collect();
    let layers = 5 * LAYERS as usize;
    assert_eq!(regions[0], Region::Slot);
    assert!(regions[1..=layers].chunks(5).all(|layer| layer == FORWARD));
    assert!(regions[1 + layers..].iter().all(|&region| region == Region::Transient));
    assert_eq!(memory.stats().overflow_hits, 0);
}

pub fn units_in_flight_lie_apart(rig: &Rig) {
    let memory = planned(rig.memory());
    let mut flying: Vec<_> = (0..4).map(|slice| run_forward(&memory, slice)).collect();
    assert!(are_apart(flying.iter().flat_map(|(_, saved)| saved)));
    let stats = memory.stats();
    assert_eq!(stats.region(Region::Slot).active.current, 4 * SLOT_BYTES);
    assert_eq!(stats.region(Region::Kv).active.current, 4 * KV_BYTES);
    assert_eq!(stats.activations.current, 4 * (SLOT_BYTES + KV_BYTES));
    while let Some((unit, saved)) = flying.pop() {
        run_backward(unit, saved);
    }
}

pub fn a_backward_leaves_what_the_next_forward_needs(rig: &Rig) {
    let memory = planned(rig.memory());
    let mut flying: Vec<_> = (0..3).map(|slice| run_forward(&memory, slice)).collect();
    let before: Vec<_> = flying[1].1.iter().map(span).collect();
    let (unit, saved) = flying.remove(1);
    run_backward(unit, saved);
    let reserved = memory.stats().total.reserved.current;
    let (unit, saved) = run_forward(&memory, 3);
    let after: Vec<_> = saved.iter().map(span).collect();
    assert_eq!(after, before);
    assert_eq!(memory.stats().total.reserved.current, reserved);
    flying.push((unit, saved));
    flying.into_iter().for_each(|(unit, saved)| run_backward(unit, saved));
}

pub fn what_is_meant_to_last_outlives_its_unit(rig: &Rig) {
    let memory = planned(rig.memory());
    let lasting = [Region::Persistent, Region::KvGrad, Region::Comm];
    let make = || {
        lasting.map(|region| {
            let _place = scope::place(region);
            allocate(1000, "lasting").unwrap()
        })
    };
    let outside = {
        let _entered = memory.enter();
        make()
    };
    let (unit, saved) = run_forward(&memory, 0);
    let inside = within(unit.backward(), make);
    run_backward(unit, saved);
    for (index, region) in lasting.into_iter().enumerate() {
        assert_eq!((outside[index].region(), inside[index].region()), (region, region));
        assert!(inside[index].check("later").is_ok());
        assert_eq!(memory.stats().region(region).active.current, 2048);
        assert_eq!(memory.stats().region(region).requested.current, 2000);
    }
    assert!(are_apart(outside.iter().chain(&inside)));
    assert_eq!(memory.stats().overflow_hits, 0);
}

pub fn regions_that_callers_may_not_choose_are_not_chosen(rig: &Rig) {
    let memory = planned(rig.memory());
    let _entered = memory.enter();
    for region in [Region::Slot, Region::Kv, Region::Transient, Region::Overflow] {
        let _place = scope::place(region);
        assert_eq!(allocate(64, "stray").unwrap().region(), Region::Overflow);
    }
    assert_eq!(memory.stats().overflow_hits, 0, "only what units should have planned is counted");
}

pub fn messages_belong_to_the_communicator(rig: &Rig) {
    let memory = rig.memory();
    let recorder = Recorder::new();
    let forward = recorder.forward();
    let (received, sent) = (allocate_meta(256), allocate_meta(256));
    recorder.mark_comm(&received);
    recorder.mark_comm(&sent);
    drop(sent);
    drop(forward);
    drop(received);
    memory.install(0, recorder.finish()).unwrap();

    let unit = memory.unit(id(0)).unwrap();
    let _forward = unit.forward();
    let (received, sent) = (allocate(256, "receive").unwrap(), allocate(256, "send").unwrap());
    assert_eq!(received.region(), Region::Slot, "what is saved too is the unit's");
    assert_eq!(sent.region(), Region::Comm);
}

pub fn one_allocation_too_many_disturbs_its_layer_only(rig: &Rig) {
    let memory = planned(rig.memory());
    let unit = memory.unit(id(0)).unwrap();
    let _forward = unit.forward();
    let embedding = allocate(EMBEDDED, "embedding").unwrap();
    let mut kept = vec![embedding];
    for layer in 0..LAYERS {
        if layer == 1 {
            let _layer = scope::layer(layer);
            let unforeseen = allocate(64, "unforeseen").unwrap();
            assert_eq!(unforeseen.region(), Region::Overflow);
            kept.push(unforeseen);
        }
        let made = layer_forward(layer, &real).unwrap();
        let places = made.each_ref().map(Allocation::region);
        let as_planned = places == [Region::Kv, Region::Kv, Region::Slot];
        assert_eq!(as_planned, layer != 1, "layer {layer} is in {places:?}");
        kept.extend(made);
    }
    assert!(are_apart(&kept));
    assert!(memory.stats().overflow_hits > 0);
}

pub fn a_temporary_that_outlives_its_plan_is_not_overwritten(rig: &Rig) {
    let memory = planned(rig.memory());
    let stolen = RefCell::new(None);
    let unit = memory.unit(id(0)).unwrap();
    let saved = within(unit.forward(), || {
        let _layer = scope::layer(0);
        let keys_and_values = [real(KV, "keys").unwrap(), real(KV, "values").unwrap()];
        stolen.replace(Some(real(SCORES, "scores").unwrap()));
        keys_and_values
    });
    drop((saved, unit));
    let stolen = stolen.into_inner().unwrap();
    assert_eq!(stolen.region(), Region::Transient);
    assert!(stolen.check("later").is_ok(), "temporaries are not the unit's");
    let (unit, saved) = run_forward(&memory, 1);
    assert!(are_apart(saved.iter().chain([&stolen])));
    assert!(memory.stats().overflow_hits > 0);
    run_backward(unit, saved);
}

pub fn units_without_a_plan_use_the_overflow_region(rig: &Rig) {
    let memory = rig.memory();
    let (unit, saved) = run_forward(&memory, 0);
    assert!(saved.iter().all(|block| block.region() == Region::Overflow));
    let made = memory.stats().allocations;
    assert_eq!(memory.stats().overflow_hits, made);
    drop(unit);
    // Nobody but their handles owns them.
    assert!(saved.iter().all(|block| block.check("later").is_ok()));
    assert_eq!(memory.stats().total.active.current, SLOT_BYTES + KV_BYTES);
}

pub fn blocks_keep_what_is_written_to_them(rig: &Rig) {
    let memory = planned(rig.memory());
    let write = |block: &Allocation, byte: u8| {
        // SAFETY: the block is live and nobody else's.
        unsafe { block.as_ptr().unwrap().write_bytes(byte, block.bytes() as usize) }
    };
    let holds = |block: &Allocation, byte: u8| {
        let (start, len) = (block.as_ptr().unwrap().as_ptr(), block.bytes() as usize);
        // SAFETY: blocks of the suite's units lie in committed memory that only this thread uses;
        // a closed unit's cells stay committed until they are released.
        unsafe { std::slice::from_raw_parts(start, len) }.iter().all(|&found| found == byte)
    };
    let fresh = |block: Allocation| {
        assert!(holds(&block, if rig.poisons() { 0xff } else { 0 }), "{block:?}");
        block
    };
    let first = memory.unit(id(0)).unwrap();
    let make = |bytes, op| allocate(bytes, op).map(fresh);
    let saved = within(first.forward(), || unit::forward(&make).unwrap());
    saved.iter().zip(1..).for_each(|(block, byte)| write(block, byte));
    let (second, others) = run_forward(&memory, 1);
    others.iter().for_each(|block| write(block, 99));
    run_backward(second, others);
    assert!(saved.iter().zip(1..).all(|(block, byte)| holds(block, byte)));
    drop(first);
    assert!(
        saved
            .iter()
            .zip(1..)
            .all(|(block, byte)| holds(block, 0xff) || !rig.poisons() && holds(block, byte))
    );
}
