//! Whatever fails, every rank ends with an error that names it.

use std::time::Duration;

use slimpipe_pipeline::comm::CommError;
use slimpipe_pipeline::comm::nccl::Reduce;

use crate::ranks::{Rank, launch, mocks};

const RANKS: u32 = 4;
const TIMEOUT: Duration = Duration::from_millis(400);

/// One sum over all ranks.
fn sum(rank: &Rank) -> Result<(), CommError> {
    let mut x = rank.tensor(&[1.0; 3]);
    let at = x.device_ptr_mut("sum").unwrap();
    // SAFETY: the elements live until the stream was waited for.
    rank.communicate("a sum", |calls| unsafe { calls.all_reduce(at, 3, Reduce::SumF32) })?;
    assert_eq!(x.to_vec::<f32>().unwrap(), [RANKS as f32; 3]);
    Ok(())
}

/// Sums until something fails, at most `steps` times.
fn sums(steps: u32) -> impl Fn(Rank) -> Result<(), CommError> + Clone + Send {
    move |rank| {
        (0..steps).try_for_each(|_| sum(&rank))?;
        rank.group.finish()
    }
}

fn texts(results: Vec<Result<(), CommError>>) -> Vec<String> {
    results.into_iter().map(|result| result.unwrap_err().to_string()).collect()
}

#[test]
fn a_rank_that_dies_or_meets_an_error_ends_all_and_is_named() {
    for (fault, expected) in [("die:2:2", "rank 2"), ("error:1:2", "rank 1")] {
        let _mocks = mocks();
        slimpipe_mock::nccl().set("fault", fault);
        for text in texts(launch(RANKS, TIMEOUT, sums(50))) {
            assert!(text.contains(expected), "{fault}: {text}");
        }
    }
}

#[test]
fn a_rank_that_hangs_ends_all_within_the_timeout_and_the_call_is_named() {
    let _mocks = mocks();
    slimpipe_mock::nccl().set("fault", "hang:0:2");
    for text in texts(launch(RANKS, TIMEOUT, sums(50))) {
        assert!(text.contains("a sum has not ended"), "{text}");
    }
}

#[test]
fn a_rank_that_never_comes_is_named_by_all_who_wait() {
    let _mocks = mocks();
    slimpipe_mock::nccl().set("fault", "absent:3");
    let results = launch(RANKS, TIMEOUT, sums(1));
    assert!(
        results.iter().all(|result| matches!(result, Err(CommError::Absent { .. }))),
        "{results:?}"
    );
}

#[test]
fn a_rank_that_fails_by_itself_ends_the_others() {
    let _mocks = mocks();
    let body = |rank: Rank| {
        // All are there once they have met.
        sum(&rank)?;
        if rank.group.rank() == 1 {
            rank.group.fail("its disk is full".to_owned());
        }
        sums(1000)(rank)
    };
    for text in texts(launch(RANKS, Duration::from_secs(20), body)) {
        assert!(text.contains("rank 1 failed: its disk is full"), "{text}");
    }
}

#[test]
fn two_hundred_seeded_runs_end_as_they_should() {
    for seed in 0..200u32 {
        let _mocks = mocks();
        let nccl = slimpipe_mock::nccl();
        nccl.set("send", if seed % 2 == 0 { "rendezvous" } else { "buffered" });
        nccl.set("order", format!("random:{seed}:100"));
        let (rank, at) = (seed / 4 % RANKS, 1 + seed / 16 % 3);
        let fault = match seed % 4 {
            0 => None,
            1 => Some(format!("die:{rank}:{at}")),
            2 => Some(format!("error:{rank}:{at}")),
            _ => Some(format!("hang:{rank}:{at}")),
        };
        let timeout = match seed % 4 {
            3 => Duration::from_millis(150),
            _ => Duration::from_secs(60),
        };
        nccl.set("fault", fault.as_deref().unwrap_or_default());
        let results = launch(RANKS, timeout, sums(4));
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(
            failed,
            if fault.is_some() { RANKS as usize } else { 0 },
            "{fault:?}: {results:?}"
        );
    }
}
