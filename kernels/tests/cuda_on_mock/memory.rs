//! Ranges, pinned memory, copies.

use slimpipe_kernels::cuda::{CudaError, Pinned, Range, copy};
use slimpipe_mock::driver;

use crate::Rig;

const MIB: u64 = 1 << 20;

#[test]
fn a_range_grows_in_place_and_keeps_what_is_in_it() {
    let rig = Rig::new("late");
    let mut range = Range::reserve(rig.context, 256 * MIB).unwrap();
    let start = range.start();
    assert_eq!((range.committed(), range.capacity()), (0, 256 * MIB));
    range.commit(1).unwrap();
    assert_eq!(range.committed(), Range::GRANULE);
    rig.write(start, &[1u32, 2, 3]);
    range.commit(100 * MIB).unwrap();
    assert_eq!((range.committed(), range.start()), (100 * MIB, start));
    rig.write(start.offset(100 * MIB - 4), &[9u32]);
    assert_eq!(rig.read::<u32>(start, 3), [1, 2, 3]);
    assert_eq!(rig.read::<u32>(start.offset(100 * MIB - 4), 1), [9]);
    let told = range.commit(257 * MIB).unwrap_err().to_string();
    assert_eq!(told, "the range of 268435456 bytes reserved on GPU 0 is full");
    assert_eq!(range.committed(), 100 * MIB);
}

#[test]
fn memory_that_was_given_back_can_be_had_again_and_the_rest_stays() {
    let rig = Rig::new("random:3");
    let mut range = rig.range(100 * MIB);
    rig.write(range.start(), &[5u8]);
    let (free, _) = rig.context.memory().unwrap();
    range.release(1).unwrap();
    let kept = range.committed();
    assert!((1..=32 * MIB).contains(&kept), "{kept}");
    assert_eq!(rig.context.memory().unwrap().0 - free, 100 * MIB - kept);
    assert_eq!(rig.read::<u8>(range.start(), 1), [5]);
    range.commit(64 * MIB).unwrap();
    rig.write(range.start().offset(64 * MIB - 1), &[6u8]);
    range.release(0).unwrap();
    assert_eq!(range.committed(), 0);
}

#[test]
fn a_full_gpu_says_how_full_it_is_and_leaves_the_range_as_it_was() {
    let rig = Rig::new("eager");
    let mut range = rig.range(4 * MIB);
    driver().set("memory", 256u64 << 20);
    let error = range.commit(300 * MIB).unwrap_err();
    driver().set("memory", 8u64 << 30);
    assert!(matches!(error, CudaError::OutOfMemory { ordinal: 0, .. }), "{error}");
    let told = error.to_string();
    assert!(told.starts_with("out of GPU memory: cuMemCreate asked for 310378496 bytes"), "{told}");
    assert_eq!(range.committed(), 4 * MIB);
    range.commit(100 * MIB).unwrap();
}

#[test]
fn copies_go_there_and_back_through_pinned_memory_and_fills_reach_their_end() {
    let rig = Rig::new("late");
    let range = rig.range(4 * MIB);
    let pinned = Pinned::new(rig.context, 1000).unwrap();
    // SAFETY: the memory is `pinned`'s 1000 bytes and the range's; nobody else uses either, and reads wait.
    unsafe {
        pinned.as_ptr().write_bytes(3, 1000);
        copy::to_device(&rig.stream, pinned.as_ptr(), range.start(), 1000).unwrap();
        copy::on_device(&rig.stream, range.start(), range.start().offset(1000), 1000).unwrap();
        copy::fill(&rig.stream, range.start().offset(500), 8, 1000).unwrap();
        copy::fill(&rig.stream, range.start(), 9, 0).unwrap();
    }
    let found = rig.read::<u8>(range.start(), 2000);
    let expected = [[3; 500].as_slice(), &[8; 1000], &[3; 500]].concat();
    assert_eq!(found, expected);
    let waits = driver().counters().get("synchronisations.implicit");
    assert_eq!(waits, 1, "only the read into pageable memory waits inside");
}
