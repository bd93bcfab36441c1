use std::{
    thread,
    time::{Duration, Instant},
};

use cudarc::nccl::result;
use slimpipe_mock::{driver, nccl};

use super::ranks::{Code, Rank, Type, alone, outcome, within};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs ranks as threads, each until its body ends; a body has to end its communicator itself.
fn ranks<T: Send + 'static>(number: usize, body: fn(Rank) -> T) -> Vec<T> {
    let id = result::get_uniqueid().unwrap();
    within("a rank", LIMIT, move || {
        let threads: Vec<_> = (0..number)
            .map(|rank| thread::spawn(move || body(Rank::join(rank, number, id).unwrap())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Puts a sum on the stream; waits for an error for a while, then aborts.
fn sum_and_watch(rank: Rank) -> Option<(Code, String)> {
    let data = rank.stream.clone_htod(&[1f32]).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&data, &rank.stream).0;
    let stream = rank.stream.cu_stream().cast();
    // SAFETY: the element lives until the stream has come to it.
    outcome(unsafe {
        use cudarc::nccl::sys::{ncclAllReduce, ncclRedOp_t::ncclSum};
        let place = address as *mut std::ffi::c_void;
        ncclAllReduce(place, place, 1, Type::ncclFloat32, ncclSum, rank.comm, stream)
    })
    .unwrap();
    let done = rank.stream.record_event(None).unwrap();
    let end = Instant::now() + Duration::from_millis(300);
    while rank.status() == Code::ncclSuccess && !done.is_complete() && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    let failed = rank.status() != Code::ncclSuccess;
    if failed {
        // The operation stays on the stream until the communicator is aborted.
        assert!(!done.is_complete(), "an operation that failed ended by itself");
    }
    let error = failed.then(|| rank.wait_for_error());
    let stuck = !done.is_complete();
    rank.abort();
    done.synchronize().unwrap();
    error.or(stuck.then(|| (Code::ncclInProgress, "stuck".into())))
}

#[test]
fn a_rank_that_dies_is_named_by_those_that_wait_for_it() {
    let _alone = alone();
    nccl().set("fault", "die:2:1");
    let errors = ranks(4, sum_and_watch);
    for (rank, error) in errors.iter().enumerate() {
        let (code, text) = error.as_ref().expect("an error on every rank");
        if rank == 2 {
            assert_eq!(*code, Code::ncclInternalError);
        } else {
            assert_eq!(*code, Code::ncclRemoteError, "rank {rank}: {text}");
            assert!(text.contains("rank 2 is gone"), "rank {rank}: {text}");
        }
    }
}

#[test]
fn an_asynchronous_error_is_told_on_its_rank_and_the_others_only_wait() {
    let _alone = alone();
    nccl().set("fault", "error:1:1");
    let errors = ranks(3, sum_and_watch);
    assert_eq!(errors[1].as_ref().unwrap().0, Code::ncclSystemError);
    for rank in [0, 2] {
        assert_eq!(errors[rank].as_ref().unwrap().0, Code::ncclInProgress, "rank {rank}");
    }
}

#[test]
fn a_rank_that_hangs_is_told_nowhere_and_aborts_end_it() {
    let _alone = alone();
    nccl().set("fault", "hang:0:1");
    let errors = ranks(3, sum_and_watch);
    assert!(errors.iter().all(|e| e.as_ref().unwrap().0 == Code::ncclInProgress), "{errors:?}");
}

#[test]
fn a_hanging_stream_of_the_driver_keeps_its_communicator_waiting() {
    let _alone = alone();
    driver().set("hang", "ncclAllReduce:1");
    let id = result::get_uniqueid().unwrap();
    within("a stream", LIMIT, move || {
        let rank = Rank::join(0, 1, id).unwrap();
        let event = rank.stream.record_event(None).unwrap();
        event.synchronize().unwrap();
        let worker = thread::spawn(move || {
            let sum = rank.sum(4.0);
            rank.destroy();
            sum
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!worker.is_finished());
        driver().release();
        assert_eq!(worker.join().unwrap(), Ok(4.0));
    });
}

#[test]
fn a_rank_that_never_shows_up_is_waited_for_until_an_abort() {
    let _alone = alone();
    nccl().set("fault", "absent:1");
    let id = result::get_uniqueid().unwrap();
    within("joining", LIMIT, move || {
        let both = [0, 1].map(|rank| Rank::join_later(rank, 2, id).unwrap());
        thread::sleep(Duration::from_millis(100));
        for rank in &both {
            assert_eq!(rank.status(), Code::ncclInProgress);
        }
        both.into_iter().for_each(Rank::abort);
    });
}

#[test]
fn ranks_that_mean_different_things_are_told_so() {
    let _alone = alone();
    let errors = ranks(2, |rank| {
        // Four elements against three.
        let length = 4 - rank.rank;
        let data = rank.stream.alloc_zeros::<f32>(length).unwrap();
        if rank.rank == 0 {
            rank.send(&data, Type::ncclFloat32, 1).unwrap();
            rank.receive(&data, Type::ncclFloat32, 1).unwrap();
        } else {
            rank.receive(&data, Type::ncclFloat32, 0).unwrap();
        }
        let error = rank.wait_for_error();
        rank.abort();
        error
    });
    for (code, text) in errors {
        assert_eq!(code, Code::ncclInvalidUsage);
        assert!(text.contains("\"3 ncclFloat32\" of rank 0"), "{text}");
        assert!(text.contains("sent \"4 ncclFloat32\""), "{text}");
    }
}

#[test]
fn collectives_that_differ_in_type_or_kind_are_told_so() {
    let _alone = alone();
    let errors = ranks(2, |rank| {
        let data = rank.stream.alloc_zeros::<u64>(8).unwrap();
        let place = cudarc::driver::DevicePtr::device_ptr(&data, &rank.stream).0;
        let place = place as *mut std::ffi::c_void;
        let stream = rank.stream.cu_stream().cast();
        // SAFETY: the elements live until the stream has come to them.
        outcome(unsafe {
            use cudarc::nccl::sys::{ncclAllGather, ncclAllReduce, ncclRedOp_t::ncclSum};
            match rank.rank {
                0 => ncclAllReduce(place, place, 2, Type::ncclFloat32, ncclSum, rank.comm, stream),
                _ => ncclAllGather(place, place, 2, Type::ncclFloat32, rank.comm, stream),
            }
        })
        .unwrap();
        let error = rank.wait_for_error();
        rank.abort();
        error
    });
    for (code, text) in errors {
        assert_eq!(code, Code::ncclInvalidUsage);
        assert!(text.contains("AllReduce(Sum)") && text.contains("AllGather"), "{text}");
    }
}

#[test]
fn memory_that_is_none_fails_the_context_as_a_kernel_would() {
    let _alone = alone();
    let errors = ranks(1, |rank| {
        let address = rank.stream.alloc_zeros::<f32>(4).unwrap().leak();
        // SAFETY: the memory is too short on purpose.
        outcome(unsafe {
            use cudarc::nccl::sys::ncclAllGather;
            let (from, to) = (address as *const _, (address + 16) as *mut _);
            let stream = rank.stream.cu_stream().cast();
            ncclAllGather(from, to, 4, Type::ncclFloat32, rank.comm, stream)
        })
        .unwrap();
        let error = rank.wait_for_error();
        assert!(rank.stream.synchronize().is_err());
        rank.abort();
        error
    });
    assert_eq!(errors[0].0, Code::ncclUnhandledCudaError);
    assert!(driver().fault().unwrap().contains("16 bytes"), "{:?}", driver().fault());
}

#[test]
fn two_hundred_seeded_runs_with_a_fault_end_within_their_limit() {
    let _alone = alone();
    for seed in 0..200u64 {
        let (kind, rank, n) = (["die", "error", "hang"][seed as usize % 3], seed % 3, 1 + seed % 4);
        nccl().set("fault", format!("{kind}:{rank}:{n}"));
        nccl().set("order", format!("random:{seed}:50"));
        driver().set("order", format!("random:{seed}:50"));
        nccl().set("send", if seed % 2 == 0 { "buffered" } else { "rendezvous" });
        let ended = ranks(3, |rank| {
            let (next, before) = ((rank.rank + 1) % 3, (rank.rank + 2) % 3);
            let data = rank.stream.clone_htod(&[1u8; 64]).unwrap();
            let got = rank.stream.alloc_zeros::<u8>(64).unwrap();
            for _ in 0..4 {
                result::group_start().unwrap();
                let sent = rank.send(&data, Type::ncclUint8, next);
                let received = rank.receive(&got, Type::ncclUint8, before);
                let ended = result::group_end().is_ok();
                if sent.is_err() || received.is_err() || !ended {
                    break;
                }
            }
            let done = rank.stream.record_event(None).unwrap();
            let end = Instant::now() + Duration::from_millis(40);
            while !done.is_complete() && Instant::now() < end {
                thread::sleep(Duration::from_micros(200));
            }
            let ended = done.is_complete();
            rank.abort();
            done.synchronize().unwrap();
            ended
        });
        assert!(!ended[rank as usize], "seed {seed}: the planted fault did not strike");
    }
}
