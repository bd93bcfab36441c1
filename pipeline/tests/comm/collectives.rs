//! What all ranks do together.

use slimpipe_pipeline::comm::local::launch;
use slimpipe_pipeline::comm::{CommError, Communicator, Reduction, Tag};

use crate::watchdog::Watchdog;

/// A value of rank `rank` whose sum depends on the order of addition.
fn value(rank: u32, index: usize) -> f64 {
    let sign = if (rank as usize + index).is_multiple_of(2) { 1.0 } else { -1.0 };
    sign * (1.0 + index as f64 / 3.0) * 10f64.powi(7 * rank as i32 - index as i32)
}

#[test]
fn sums_are_added_in_rank_order_with_the_same_bits_on_every_rank() {
    let _watchdog = Watchdog::new("sums");
    for size in 1..=5u32 {
        for len in [0, 1, 17] {
            let sums = launch(size, 1, |mut comm| -> Result<Vec<u64>, CommError> {
                let mut values: Vec<f64> = (0..len).map(|i| value(comm.rank(), i)).collect();
                for _ in 0..20 {
                    let mut again = values.clone();
                    comm.all_reduce_sum_f64(&mut again)?;
                }
                comm.all_reduce_sum_f64(&mut values)?;
                Ok(values.into_iter().map(f64::to_bits).collect())
            });
            let in_order = |i| (0..size).fold(0.0, |sum, rank| sum + value(rank, i));
            let expected: Vec<u64> = (0..len).map(|i| f64::to_bits(in_order(i))).collect();
            assert_eq!(sums.unwrap(), vec![expected; size as usize]);
        }
    }
}

#[test]
fn rank_0_gathers_everyones_bytes_by_rank() {
    let _watchdog = Watchdog::new("gather");
    let all = launch(4, 1, |mut comm| -> Result<_, CommError> {
        let mut rounds = Vec::new();
        for round in 0..10u8 {
            rounds.push(comm.gather(vec![round; comm.rank() as usize])?);
        }
        Ok(rounds)
    })
    .unwrap();
    for round in 0..10u8 {
        let expected = (0..4).map(|rank| vec![round; rank]).collect();
        assert_eq!(all[0][round as usize], Some(expected));
        assert!(all[1..].iter().all(|rounds| rounds[round as usize].is_none()));
    }
}

#[test]
fn a_broadcast_fills_every_rank_from_any_root() {
    let _watchdog = Watchdog::new("broadcast");
    for (root, len) in [(0, 0), (0, 1), (2, 256 << 10), (1, 1_000_003)] {
        let byte = |i: usize| (i * 31 % 251) as u8;
        let all = launch(3, 1, |mut comm| -> Result<bool, CommError> {
            let mut bytes = vec![0u8; len];
            if comm.rank() == root {
                bytes.iter_mut().enumerate().for_each(|(i, b)| *b = byte(i));
            }
            comm.broadcast(root, (&mut bytes).into())?;
            Ok(bytes.iter().enumerate().all(|(i, &b)| b == byte(i)))
        });
        assert_eq!(all, Ok(vec![true; 3]));
    }
}

#[test]
fn a_reduce_gives_the_sum_to_the_rank_that_asks() {
    let _watchdog = Watchdog::new("reduce");
    for (root, len) in [(0, 1), (2, 2), (1, 7), (2, 100_003)] {
        let all = launch(3, 1, |mut comm| -> Result<Vec<f32>, CommError> {
            let value = |i: usize| (i % 97) as f32 + 100.0 * comm.rank() as f32;
            let mut values: Vec<f32> = (0..len).map(value).collect();
            comm.reduce_f32(root, Reduction::Sum, values.as_mut_slice().into())?;
            Ok(values)
        });
        let expected: Vec<f32> = (0..len).map(|i| 3.0 * (i % 97) as f32 + 300.0).collect();
        assert_eq!(all.unwrap()[root as usize], expected, "{len} values on rank {root}");
    }
}

#[test]
fn collectives_may_follow_each_other_in_any_order() {
    let _watchdog = Watchdog::new("mixed");
    launch(4, 1, |mut comm| -> Result<(), CommError> {
        let rank = comm.rank();
        for round in 0..200u32 {
            match round * 7 % 5 {
                0 => comm.barrier()?,
                1 => {
                    let mut sum = [f64::from(rank + round)];
                    comm.all_reduce_sum_f64(&mut sum)?;
                    assert_eq!(sum, [f64::from(6 + 4 * round)]);
                }
                2 => assert_eq!(comm.gather(vec![rank as u8])?.is_some(), rank == 0),
                3 => {
                    let mut bytes = [rank as u8; 3];
                    comm.broadcast(round % 4, (&mut bytes).into())?;
                    assert_eq!(bytes, [(round % 4) as u8; 3]);
                }
                _ => {
                    let (peer, mut theirs) = (3 - rank, [0]);
                    let own = Box::new(vec![rank as u8]);
                    comm.swap(peer, Tag::Block(0), own, (&mut theirs).into())?;
                    assert_eq!(theirs, [peer as u8]);
                }
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn ranks_that_call_different_collectives_all_fail() {
    let _watchdog = Watchdog::new("disagree");
    let outcome = launch(3, 1, |mut comm| -> Result<(), CommError> {
        match comm.rank() {
            0 => comm.gather(Vec::new()).map(drop),
            _ => comm.barrier(),
        }
    });
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("a gather") && text.contains("a barrier"), "{text}");
    let outcome = launch(2, 1, |mut comm| -> Result<(), CommError> {
        comm.all_reduce_sum_f64(&mut vec![0.0; 1 + comm.rank() as usize])
    });
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("a sum of 1 values") && text.contains("a sum of 2 values"), "{text}");
}
