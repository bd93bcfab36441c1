//! Groups of ranks, and collectives on memory in place.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use slimpipe_pipeline::comm::local::{LocalComm, launch};
use slimpipe_pipeline::comm::{
    Axis, BytesMut, CommError, Communicator, Mesh, Reduction, Tag, pieces, share,
};

use crate::watchdog::Watchdog;

/// A value of element `index` on rank `rank`; sums of several depend on their order.
fn value(rank: u32, index: usize) -> f32 {
    ((index * 7 + rank as usize * 13) as f32).sin() * 10f32.powi(rank as i32 % 5)
}

/// The flat space of `rank`, cut into slices of `lens`.
fn slices(rank: u32, lens: &[usize]) -> Vec<Vec<f32>> {
    let mut next = 0..;
    lens.iter().map(|&len| next.by_ref().take(len).map(|i| value(rank, i)).collect()).collect()
}

fn parts(slices: &mut [Vec<f32>]) -> Vec<BytesMut<'_>> {
    slices.iter_mut().map(|slice| slice.as_mut_slice().into()).collect()
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn reductions_have_the_bits_of_rank_order_whoever_comes_first(
        size in 1u32..6, lens in prop::collection::vec(0usize..9000, 0..5), late in 0u32..6,
    ) {
        let _watchdog = Watchdog::new("reductions");
        let len: usize = lens.iter().sum();
        let sum = |i| (1..size).fold(value(0, i), |sum, rank| sum + value(rank, i));
        let max = |i| (1..size).fold(value(0, i), |max, rank| max.max(value(rank, i)));
        launch(size, 1, |mut comm| -> Result<(), CommError> {
            let rank = comm.rank();
            if rank == late {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let mut own = slices(rank, &lens);
            comm.reduce_scatter_f32(Reduction::Sum, &mut parts(&mut own))?;
            let range = share(len, size, rank);
            let reduced = pieces(lens.iter().copied(), range.clone())
                .flat_map(|(part, range)| own[part][range].to_vec());
            assert_eq!(bits(reduced), bits(range.map(sum)));

            comm.all_gather(4, &mut parts(&mut own))?;
            assert_eq!(bits(own.concat()), bits((0..len).map(sum)));

            let mut own = slices(rank, &[len]).concat();
            comm.all_reduce_f32(Reduction::Max, own.as_mut_slice().into())?;
            assert_eq!(bits(own), bits((0..len).map(max)));
            Ok(())
        }).unwrap();
    }
}

#[test]
fn a_nan_survives_a_maximum_on_whichever_rank_it_is() {
    for culprit in 0..3 {
        let all = launch(3, 1, |mut comm| -> Result<f32, CommError> {
            let own = if comm.rank() == culprit { f32::NAN } else { comm.rank() as f32 };
            let mut values = [own];
            comm.all_reduce_f32(Reduction::Max, values.as_mut_slice().into())?;
            Ok(values[0])
        });
        assert!(all.unwrap().into_iter().all(f32::is_nan));
    }
}

#[test]
fn bf16_weights_are_gathered_by_elements_of_two_bytes() {
    launch(3, 1, |mut comm| -> Result<(), CommError> {
        let rank = comm.rank();
        let mut own = [rank as u16 + 1; 7];
        comm.all_gather(2, &mut [bytemuck::cast_slice_mut::<u16, u8>(&mut own).into()])?;
        assert_eq!(own, [1, 1, 1, 2, 2, 2, 3]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_mesh_gives_every_rank_its_group_along_each_axis() {
    let _watchdog = Watchdog::new("mesh");
    for (d, p) in [(1, 1), (1, 3), (3, 1), (2, 2), (2, 3), (4, 2)] {
        let mesh = Mesh::new(d, p);
        launch(d * p, 1, |mut comm| -> Result<(), CommError> {
            let rank = comm.rank();
            for axis in [Axis::Data, Axis::Pipeline] {
                let mut group = mesh.group(&mut comm, axis)?;
                assert_eq!(group.size(), mesh.extent(axis));
                assert_eq!(group.rank(), mesh.coordinate(rank, axis));
                let all = group.gather(vec![rank as u8])?.unwrap_or_default();
                let members = all.concat();
                assert!(members.is_sorted(), "{members:?}");
                let other = if axis == Axis::Data { Axis::Pipeline } else { Axis::Data };
                let at = |rank: u32| mesh.coordinate(rank, other);
                assert!(members.iter().all(|&member| at(member.into()) == at(rank)));
            }
            Ok(())
        })
        .unwrap();
    }
    let wrong = launch(3, 1, |mut comm| Mesh::new(2, 2).group(&mut comm, Axis::Data).map(drop));
    assert_eq!(wrong, Err(CommError::WrongSize { size: 3, expected: 4 }));
}

#[test]
fn splits_order_ranks_by_key_and_can_be_split_again() {
    let _watchdog = Watchdog::new("split");
    launch(6, 1, |mut comm| -> Result<(), CommError> {
        let rank = comm.rank();
        let mut backwards = comm.split(0, 10 - rank)?;
        assert_eq!(backwards.rank(), 5 - rank);
        let mut half = backwards.split(rank / 3, 0)?;
        assert_eq!((half.size(), half.rank()), (3, 2 - rank % 3));
        // The same colors once more are another group.
        let mut again = backwards.split(rank / 3, 0)?;
        let next = (half.rank() + 1) % 3;
        let before = (half.rank() + 2) % 3;
        half.send(next, Tag::Block(0), Box::new(vec![1]))?;
        again.send(next, Tag::Block(0), Box::new(vec![2]))?;
        let mut byte = [0];
        again.recv(before, Tag::Block(0), (&mut byte).into())?;
        assert_eq!(byte, [2]);
        half.recv(before, Tag::Block(0), (&mut byte).into())?;
        assert_eq!(byte, [1]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn messages_pass_while_another_thread_of_the_rank_waits_in_a_collective() {
    let _watchdog = Watchdog::new("beside");
    launch(4, 1, |mut comm| -> Result<(), CommError> {
        // Rank 3 joins the collective only after messages went around that all others wait for.
        let mut data = comm.split(0, comm.rank())?;
        let rank = comm.rank();
        let mut reduce = move || {
            let mut values = [rank as f32; 5];
            data.all_reduce_f32(Reduction::Sum, values.as_mut_slice().into()).map(|()| values)
        };
        let around = |comm: &mut LocalComm| {
            for step in 0..50 {
                comm.send((rank + 1) % 4, Tag::Block(step), Box::new(vec![0; 8]))?;
                comm.recv((rank + 3) % 4, Tag::Block(step), (&mut [0; 8]).into())?;
            }
            comm.barrier()
        };
        let values = if rank == 3 {
            around(&mut comm)?;
            reduce()?
        } else {
            let thread = std::thread::spawn(reduce);
            around(&mut comm)?;
            thread.join().unwrap()?
        };
        assert_eq!(values, [6.0; 5]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn parts_of_other_lengths_are_refused() {
    let _watchdog = Watchdog::new("lengths");
    let outcome = launch(2, 1, |mut comm| -> Result<(), CommError> {
        let mut values = vec![0.0; 3 + comm.rank() as usize];
        comm.reduce_scatter_f32(Reduction::Sum, &mut [values.as_mut_slice().into()])
    });
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("3 elements") && text.contains("4 elements"), "{text}");
}

#[test]
fn a_rank_that_fails_fails_the_collectives_of_all_groups() {
    let _watchdog = Watchdog::new("group failure");
    let mesh = Mesh::new(2, 3);
    let own = |rank| CommError::Spawn { rank, reason: "out of luck".to_owned() };
    for seed in 0..60 {
        let (culprit, fatal) = (seed % 6, seed / 6);
        let told = AtomicU32::new(0);
        let body = |comm: &mut LocalComm| -> Result<(), CommError> {
            let rank = comm.rank();
            let mut pipeline = mesh.group(comm, Axis::Pipeline)?;
            let mut data = mesh.group(comm, Axis::Data)?;
            let mut memory = vec![1.0; 5000];
            for step in 0.. {
                if (rank, step) == (culprit, fatal) {
                    return Err(own(rank));
                }
                let part = memory.as_mut_slice().into();
                match step % 3 {
                    0 => data.reduce_scatter_f32(Reduction::Sum, &mut [part])?,
                    1 => pipeline.all_reduce_f32(Reduction::Sum, part)?,
                    _ => data.all_gather(4, &mut [part])?,
                }
                memory.fill(1.0);
            }
            Ok(())
        };
        let outcome = launch(6, 1, |mut comm| {
            let result = body(&mut comm);
            if matches!(result, Err(CommError::PeerFailed { rank, .. }) if rank == culprit) {
                told.fetch_add(1, Ordering::SeqCst);
            }
            result
        });
        assert_eq!((outcome, told.into_inner()), (Err(own(culprit)), 5), "seed {seed}");
    }
}
