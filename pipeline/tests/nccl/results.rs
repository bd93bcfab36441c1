//! What collectives and messages come to.

use std::time::Duration;

use slimpipe_pipeline::comm::CommError;
use slimpipe_pipeline::comm::nccl::Reduce;

use crate::ranks::{Rank, launch, mocks};

const TIMEOUT: Duration = Duration::from_secs(60);

fn values(rank: u32, count: usize) -> Vec<f32> {
    (0..count).map(|i| (rank as usize * count + i) as f32).collect()
}

/// A ring of messages, then every collective, beside what they should give.
fn everything(rank: Rank) -> Result<(), CommError> {
    const COUNT: usize = 6;
    let (own, size) = (rank.group.rank(), rank.group.size());
    let all: Vec<Vec<f32>> = (0..size).map(|r| values(r, COUNT)).collect();
    let sum = |i: usize| all.iter().map(|values| values[i]).sum::<f32>();

    let mut into = rank.tensor(&[0.0; COUNT]);
    for _ in 0..5 {
        let from = rank.tensor(&all[own as usize]);
        let (bytes, at) = (from.bytes(), into.device_ptr_mut("recv").unwrap());
        rank.communicate("a ring", |calls| {
            // SAFETY: tensors of so many bytes, which live until the stream was waited for.
            unsafe {
                calls.send(from.device_ptr("send").unwrap(), bytes, (own + 1) % size)?;
                calls.recv(at, bytes, (own + size - 1) % size)
            }
        })?;
    }
    assert_eq!(into.to_vec::<f32>().unwrap(), all[((own + size - 1) % size) as usize]);

    for (how, expected) in [
        (Reduce::SumF32, (0..COUNT).map(sum).collect::<Vec<_>>()),
        (Reduce::MaxF32, all[size as usize - 1].clone()),
    ] {
        let mut x = rank.tensor(&all[own as usize]);
        let at = x.device_ptr_mut("all_reduce").unwrap();
        // SAFETY: as above, here and below.
        rank.communicate("all_reduce", |calls| unsafe { calls.all_reduce(at, COUNT, how) })?;
        assert_eq!(x.to_vec::<f32>().unwrap(), expected);
        let mut x = rank.tensor(&all[own as usize]);
        let at = x.device_ptr_mut("reduce").unwrap();
        // SAFETY: as above.
        rank.communicate("reduce", |calls| unsafe { calls.reduce(at, COUNT, how, 1) })?;
        if own == 1 {
            assert_eq!(x.to_vec::<f32>().unwrap(), expected);
        }
    }
    let mut x = rank.tensor(&all[own as usize]);
    let (at, bytes) = (x.device_ptr_mut("broadcast").unwrap(), x.bytes());
    // SAFETY: as above.
    rank.communicate("broadcast", |calls| unsafe { calls.broadcast(at, bytes, 2) })?;
    assert_eq!(x.to_vec::<f32>().unwrap(), all[2]);

    let from = rank.tensor(&all[own as usize]);
    let mut into = rank.tensor(&vec![0.0; COUNT * size as usize]);
    let (bytes, at) = (from.bytes(), into.device_ptr_mut("all_gather").unwrap());
    rank.communicate("all_gather", |calls| {
        // SAFETY: as above.
        unsafe { calls.all_gather(from.device_ptr("all_gather").unwrap(), at, bytes) }
    })?;
    assert_eq!(into.to_vec::<f32>().unwrap(), all.concat());

    let whole: Vec<f32> = (0..size).flat_map(|_| all[own as usize].clone()).collect();
    let (from, mut into) = (rank.tensor(&whole), rank.tensor(&[0.0; COUNT]));
    let at = into.device_ptr_mut("reduce_scatter").unwrap();
    rank.communicate("reduce_scatter", |calls| {
        let from = from.device_ptr("reduce_scatter").unwrap();
        // SAFETY: as above.
        unsafe { calls.reduce_scatter(from, at, COUNT, Reduce::SumF32) }
    })?;
    assert_eq!(into.to_vec::<f32>().unwrap(), (0..COUNT).map(sum).collect::<Vec<_>>());
    rank.group.finish()
}

#[test]
fn messages_and_collectives_give_what_they_should_whatever_the_timing() {
    let _mocks = mocks();
    for (send, order, deferred) in [
        ("buffered", "eager", false),
        ("rendezvous", "eager", true),
        ("rendezvous", "random:7:300", true),
        ("buffered", "late:1", true),
    ] {
        let nccl = slimpipe_mock::nccl();
        nccl.set("send", send);
        slimpipe_mock::driver().set("order", order);
        nccl.set("deferred", deferred);
        for (rank, result) in launch(4, TIMEOUT, everything).into_iter().enumerate() {
            assert_eq!(result, Ok(()), "rank {rank}, {send}, {order}");
        }
    }
}

#[test]
fn a_split_group_is_of_its_members_alone_and_errors_name_ranks_as_the_whole_does() {
    let _mocks = mocks();
    let body = |rank: Rank| {
        let own = rank.group.rank();
        // Even and odd ranks, each in reverse.
        let members: Vec<u32> = (0..4).rev().filter(|other| other % 2 == own % 2).collect();
        let half = rank.group.split(own % 2, 4 - own, &members)?;
        assert_eq!((half.size(), members[half.rank() as usize]), (2, own));
        let half = Rank { group: half, streams: rank.streams.clone() };
        let mut x = rank.tensor(&[own as f32]);
        let at = x.device_ptr_mut("sum").unwrap();
        // SAFETY: one element, which lives until the stream was waited for.
        half.communicate("a sum", |calls| unsafe { calls.all_reduce(at, 1, Reduce::SumF32) })?;
        let expected = members.iter().sum::<u32>() as f32;
        assert_eq!(x.to_vec::<f32>().unwrap(), [expected]);
        half.group.finish()?;
        rank.group.finish()
    };
    for result in launch(4, TIMEOUT, body) {
        assert_eq!(result, Ok(()));
    }
}
