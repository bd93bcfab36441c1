//! Memory that is not to be had.

use std::cell::Cell;

use slimpipe_allocator::{
    AllocError, Bytes, Memory, MemoryStats, Recorder, Region, UnitId, allocate, allocate_meta,
    scope,
};

use crate::rig::{Rig, live};
use crate::unit::*;

pub fn out_of_memory_says_who_holds_what_and_leaves_everything_usable(rig: &Rig) {
    let memory = planned(rig.memory_with(|builder| builder.limit(Bytes(256 << 10))));
    let _entered = memory.enter();
    let mut held: Vec<_> = ["tiny", "embeddings", "head", "norms", "moments", "masters"]
        .into_iter()
        .zip([64, 60_000, 60_000, 1000, 30_000, 20_000])
        .map(|(op, bytes)| {
            let _place = scope::place(Region::Persistent);
            allocate(bytes, op).unwrap()
        })
        .collect();
    let told = allocate(300 << 10, "too much").unwrap_err().to_string();
    assert!(told.ends_with("limit, raise parallel.pipeline, or train a smaller model"), "{told}");
    drop(held.remove(3)); // a hole of 1024 bytes
    let (unit, saved) = run_forward(&memory, 4);
    let before = memory.stats();

    let error = allocate(100 << 10, "logits").unwrap_err();
    assert_eq!(memory.stats(), before, "nothing has changed");
    let reserved = Bytes(before.total.reserved.current);
    let expected = format!(
        "out of memory on rank 3: logits asked for 100.0 KiB (100.0 KiB more would exceed the limit); \
         active 168.6 KiB (persistent 166.2 KiB, slots 1.6 KiB, kv 768 B), reserved {reserved}, \
         largest free block 1.0 KiB, limit 256.0 KiB \
         (memory.limit); the largest owners are\n    \
         58.6 KiB  rank 3, embeddings (persistent, 1 block)\n    \
         58.6 KiB  rank 3, head (persistent, 1 block)\n    \
         29.3 KiB  rank 3, moments (persistent, 1 block)\n    \
         19.6 KiB  rank 3, masters (persistent, 1 block)\n       \
         512 B  rank 3, mb0/slice4/chunk0, layer 0, mlp (slots, 1 block)\n\
         raise memory.limit, lower train.seq_len, raise parallel.slices or parallel.pipeline, \
         or set memory.recompute or memory.offload"
    );
    assert_eq!(error.to_string(), expected);

    assert!(allocate(1 << 10, "smaller").is_ok());
    run_backward(unit, saved);
    let (unit, saved) = run_forward(&memory, 5);
    run_backward(unit, saved);
    assert_eq!(memory.stats().overflow_hits, 0);
}

pub fn idle_pages_are_given_back_before_a_limit_is_hit(rig: &Rig) {
    let memory = rig.memory_with(|builder| builder.limit(Bytes((1 << 20) + (64 << 10))));
    let _entered = memory.enter();
    for region in [Region::Persistent, Region::KvGrad, Region::Overflow, Region::Persistent] {
        let _place = scope::place(region);
        let block = allocate(1 << 20, "large").unwrap();
        assert_eq!(block.region(), region);
        assert!(allocate(1 << 20, "another").is_err());
    }
}

/// The plan of a unit that saves `blocks` of `bytes` each.
fn saving(memory: &Memory, chunk: u32, blocks: usize, bytes: u64) {
    let recorder = Recorder::new();
    let forward = recorder.forward();
    let saved: Vec<_> = (0..blocks).map(|_| allocate_meta(bytes)).collect();
    drop((forward, saved));
    memory.install(chunk, recorder.finish()).unwrap();
}

pub fn a_limit_for_one_kind_of_unit_serves_another_kind_later(rig: &Rig) {
    let memory = rig.memory_with(|builder| builder.limit(Bytes(1 << 20)));
    saving(&memory, 0, 4, 256 << 10);
    saving(&memory, 1, 2, 512 << 10);
    for (slice, chunk) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
        let unit = memory.unit(UnitId { microbatch: 0, slice, chunk }).unwrap();
        let error = memory.unit(UnitId { microbatch: 1, slice, chunk }).err().unwrap();
        assert!(error.to_string().contains("unit asked for 1.0 MiB"), "{error}");
        drop(unit);
    }
}

pub fn no_request_is_too_long_to_be_refused(rig: &Rig) {
    let memory = planned(rig.memory());
    let unit = memory.unit(id(0)).unwrap();
    let _forward = unit.forward();
    let _first = allocate(4000, "unforeseen").unwrap();
    // The last would fit a region's addresses, were the first not there.
    for bytes in [u64::MAX, u64::MAX - 63, 1 << 62, 256 << 30, (256 << 30) - 64] {
        let before = memory.stats();
        let error = allocate(bytes, "absurd").unwrap_err();
        assert!(matches!(error, AllocError::OutOfMemory(_)), "{error}");
        assert_eq!(live(&memory.stats()), live(&before));
    }
    assert!(forward(&real).is_ok());
}

/// Everything a step allocates: in units and outside, planned and not.
fn step(memory: &Memory, make: Make<'_>) -> Result<(), AllocError> {
    let _entered = memory.enter();
    let unforeseen = make(700, "unforeseen")?;
    let mut flying = Vec::new();
    for slice in 0..2 {
        let unit = memory.unit(id(slice))?;
        let saved = within(unit.forward(), || forward(make))?;
        flying.push((unit, saved));
    }
    let _lasting = {
        let _place = scope::place(Region::Persistent);
        make(900, "moments")?
    };
    for (unit, saved) in flying.into_iter().rev() {
        within(unit.backward(), || {
            let _gradient = {
                let _place = scope::place(Region::KvGrad);
                make(800, "key gradients")?
            };
            backward(saved, make)
        })?;
    }
    drop(unforeseen);
    Ok(())
}

/// The figures except those of committed pages.
fn figures(stats: &MemoryStats) -> (Vec<u64>, u64, u64) {
    (live(stats), stats.overflow_hits, stats.allocations)
}

pub fn a_failure_anywhere_leaves_everything_as_it_was(rig: &Rig) {
    for nth in 1.. {
        // The weights come before the step; then the nth of the step fails.
        let memory = planned(rig.memory_with(|builder| builder.fail_nth(1 + nth)));
        let weights = {
            let _entered = memory.enter();
            let _place = scope::place(Region::Persistent);
            allocate(5000, "weights").unwrap()
        };
        let before = live(&memory.stats());
        let asked = Cell::new(0);
        let watched = |bytes, op| {
            let before = figures(&memory.stats());
            asked.set(asked.get() + 1);
            let made = allocate(bytes, op);
            if made.is_err() {
                assert_eq!(figures(&memory.stats()), before, "{op}");
            }
            made
        };
        let outcome = step(&memory, &watched);
        assert_eq!(live(&memory.stats()), before, "failing at {nth}");
        if let Err(error) = &outcome {
            assert!(error.to_string().contains("made to fail by FailNth"), "{error}");
            step(&memory, &real).unwrap();
            assert_eq!(live(&memory.stats()), before);
            assert_eq!(memory.stats().overflow_hits, 0);
        }
        drop(weights);
        rig.finish();
        if outcome.is_ok() {
            assert_eq!(nth, 1 + asked.get() + 2, "two units ask for their slots, too");
            return;
        }
    }
}
