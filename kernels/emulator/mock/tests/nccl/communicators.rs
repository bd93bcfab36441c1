use std::{thread, time::Duration};

use cudarc::{
    driver::CudaContext,
    nccl::{Comm, Id, ReduceOp, result, sys},
};
use slimpipe_mock::{driver, nccl};

use super::ranks::{Code, Rank, alone, config, outcome, run, within};

#[test]
fn the_safe_layer_of_cudarc_works_on_it() {
    let _alone = alone();
    assert_eq!(result::get_nccl_version().unwrap(), 23007);
    let id = Id::new().unwrap();
    let threads: Vec<_> = (0..4)
        .map(|rank| {
            thread::spawn(move || {
                let stream = CudaContext::new(rank).unwrap().new_stream().unwrap();
                let comm = Comm::from_rank(stream.clone(), rank, 4, id).unwrap();
                let own = stream.clone_htod(&[rank as f32; 100]).unwrap();
                let mut sum = stream.alloc_zeros::<f32>(100).unwrap();
                comm.all_reduce(&own, &mut sum, &ReduceOp::Sum).unwrap();
                stream.clone_dtoh(&sum).unwrap()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), [6.0; 100]);
    }
}

#[test]
fn one_thread_makes_the_communicators_of_all_devices() {
    let _alone = alone();
    let streams: Vec<_> =
        (0..3).map(|device| CudaContext::new(device).unwrap().new_stream().unwrap()).collect();
    let comms = Comm::from_devices(streams.clone()).unwrap();
    let mut sums = Vec::new();
    result::group_start().unwrap();
    for (comm, stream) in comms.iter().zip(&streams) {
        stream.context().bind_to_thread().unwrap();
        let own = stream.clone_htod(&[comm.rank() as i64 + 1]).unwrap();
        let mut sum = stream.alloc_zeros::<i64>(1).unwrap();
        comm.all_reduce(&own, &mut sum, &ReduceOp::Sum).unwrap();
        sums.push((own, sum));
    }
    result::group_end().unwrap();
    for (stream, (_, sum)) in streams.iter().zip(&sums) {
        assert_eq!(stream.clone_dtoh(sum).unwrap(), [6]);
    }
}

#[test]
fn several_ranks_on_one_device_have_to_be_allowed() {
    let _alone = alone();
    driver().set("devices", 1);
    let join = || {
        let id = result::get_uniqueid().unwrap();
        let threads = [0, 1].map(|rank| {
            thread::spawn(move || {
                let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
                let mut comm = std::ptr::null_mut();
                // SAFETY: the place is good for writing.
                outcome(unsafe { sys::ncclCommInitRank(&mut comm, 2, id, rank) })?;
                let rank = Rank { rank: rank as usize, stream, comm };
                let sum = rank.sum(1.0);
                rank.destroy();
                sum
            })
        });
        threads.map(|thread| thread.join().unwrap())
    };
    assert_eq!(join(), [Err(Code::ncclInvalidUsage); 2]);
    assert!(nccl().fault().unwrap().contains("ranks 0 and 1 use the same GPU"));
    nccl().set("share_devices", true);
    assert_eq!(join(), [Ok(2.0); 2]);
}

#[test]
fn a_split_makes_communicators_by_color_in_the_order_of_keys() {
    let _alone = alone();
    let answers = run(4, |rank| {
        // Even and odd ranks; the key turns their order around.
        let (color, key) = (rank.rank as i32 % 2, -(rank.rank as i32));
        let mut half = std::ptr::null_mut();
        // SAFETY: the places are good for writing; no configuration means the parent's.
        unsafe {
            let none = std::ptr::null_mut();
            outcome(sys::ncclCommSplit(rank.comm, color, key, &mut half, none)).unwrap();
        }
        let half = Rank { rank: rank.rank, stream: rank.stream.clone(), comm: half };
        // SAFETY: the communicator is alive.
        let own = unsafe { (result::comm_user_rank(half.comm), result::comm_count(half.comm)) };
        let sums = (half.sum(rank.rank as f32).unwrap(), rank.sum(1.0).unwrap());
        half.destroy();
        (own.0.unwrap(), own.1.unwrap(), sums)
    });
    let expected = [(1, 2, (2.0, 4.0)), (1, 2, (4.0, 4.0)), (0, 2, (2.0, 4.0)), (0, 2, (4.0, 4.0))];
    assert_eq!(answers, expected);
}

#[test]
fn a_rank_without_a_color_gets_no_communicator() {
    let _alone = alone();
    let answers = run(3, |rank| {
        let color = if rank.rank == 1 { -1 } else { 0 };
        let mut part = std::ptr::null_mut();
        // SAFETY: the places are good for writing.
        let done =
            unsafe { sys::ncclCommSplit(rank.comm, color, 0, &mut part, std::ptr::null_mut()) };
        outcome(done).unwrap();
        if part.is_null() {
            return 0;
        }
        // SAFETY: the communicator is alive, and not used any more afterwards.
        unsafe {
            let count = result::comm_count(part).unwrap();
            result::comm_destroy(part).unwrap();
            count
        }
    });
    assert_eq!(answers, [2, 0, 2]);
}

#[test]
fn a_communicator_that_does_not_block_tells_when_it_is_ready() {
    let _alone = alone();
    let id = result::get_uniqueid().unwrap();
    let first = Rank::join_later(0, 2, id).unwrap();
    thread::sleep(Duration::from_millis(30));
    assert_eq!(first.status(), Code::ncclInProgress, "the second rank is missing");
    let data = first.stream.alloc_zeros::<f32>(1).unwrap();
    let early = first.send(&data, super::ranks::Type::ncclFloat32, 1);
    assert_eq!(early, Err(Code::ncclInvalidUsage));
    let second = Rank::join_later(1, 2, id).unwrap();
    assert_eq!((first.settle(), second.settle()), (Code::ncclSuccess, Code::ncclSuccess));
    first.destroy();
    second.destroy();
}

#[test]
fn calls_that_are_put_off_have_to_be_asked_after() {
    let _alone = alone();
    nccl().set("deferred", true);
    let id = result::get_uniqueid().unwrap();
    let threads = [0, 1].map(|number| {
        thread::spawn(move || {
            let rank = Rank::join_later(number, 2, id).unwrap();
            assert_eq!(rank.settle(), Code::ncclSuccess);
            let data = rank.stream.clone_htod(&[3f32]).unwrap();
            let other = rank.stream.alloc_zeros::<f32>(1).unwrap();
            result::group_start().unwrap();
            rank.send(&data, super::ranks::Type::ncclFloat32, 1 - number).unwrap();
            rank.receive(&other, super::ranks::Type::ncclFloat32, 1 - number).unwrap();
            assert!(matches!(result::group_end(), Ok(result::NcclStatus::InProgress)));
            assert_eq!(rank.settle(), Code::ncclSuccess);
            let got = rank.stream.clone_dtoh(&other).unwrap();
            // SAFETY: the communicator is alive.
            outcome(unsafe { sys::ncclCommFinalize(rank.comm) }).unwrap();
            assert_eq!(rank.settle(), Code::ncclSuccess);
            rank.destroy();
            got
        })
    });
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [[3.0], [3.0]]);
}

#[test]
fn finalising_waits_for_what_is_on_the_stream() {
    let _alone = alone();
    driver().set("order", "random:3:2000");
    run(2, |rank| {
        let data = rank.stream.clone_htod(&[1f32]).unwrap();
        let other = rank.stream.alloc_zeros::<f32>(1).unwrap();
        result::group_start().unwrap();
        rank.send(&data, super::ranks::Type::ncclFloat32, 1 - rank.rank).unwrap();
        rank.receive(&other, super::ranks::Type::ncclFloat32, 1 - rank.rank).unwrap();
        result::group_end().unwrap();
        let done = rank.stream.record_event(None).unwrap();
        // SAFETY: the communicator is alive.
        outcome(unsafe { sys::ncclCommFinalize(rank.comm) }).unwrap();
        rank.stream.synchronize().unwrap();
        assert!(done.is_complete());
    });
}

#[test]
fn contradicting_ranks_are_told() {
    let _alone = alone();
    let join = |ranks: [(usize, usize); 2]| {
        let id = result::get_uniqueid().unwrap();
        within("joining", Duration::from_secs(20), move || {
            let threads =
                ranks.map(|(rank, ranks)| thread::spawn(move || Rank::join(rank, ranks, id)));
            threads.map(|thread| thread.join().unwrap().map(Rank::abort))
        })
    };
    assert_eq!(join([(0, 2), (1, 3)]), [Err(Code::ncclInvalidUsage); 2]);
    assert!(nccl().fault().unwrap().contains("ranks"), "{:?}", nccl().fault());
    assert_eq!(join([(1, 2), (1, 2)]), [Err(Code::ncclInvalidUsage); 2]);
    assert!(nccl().fault().unwrap().contains("two ranks say that they are rank 1"));
}

#[test]
fn what_is_no_configuration_id_or_communicator_is_refused() {
    let _alone = alone();
    let _context = CudaContext::new(0).unwrap();
    let mut comm = std::ptr::null_mut();
    // SAFETY: the mock is asked on purpose for what cannot be.
    unsafe {
        let id = result::get_uniqueid().unwrap();
        let mut wrong = config(true);
        wrong.magic = 0;
        let answer = sys::ncclCommInitRankConfig(&mut comm, 1, id, 0, &mut wrong);
        assert_eq!(answer, Code::ncclInvalidArgument);
        let answer = sys::ncclCommInitRank(&mut comm, 2, id, 2);
        assert_eq!(answer, Code::ncclInvalidArgument);
        let nonsense = sys::ncclUniqueId { internal: [1; 128] };
        let answer = sys::ncclCommInitRank(&mut comm, 1, nonsense, 0);
        assert_eq!(answer, Code::ncclInvalidArgument);
        outcome(sys::ncclCommInitRank(&mut comm, 1, id, 0)).unwrap();
        result::comm_destroy(comm).unwrap();
        assert_eq!(sys::ncclCommDestroy(comm), Code::ncclInvalidArgument, "destroyed already");
        assert_eq!(sys::ncclCommAbort(comm), Code::ncclInvalidArgument);
    }
}
