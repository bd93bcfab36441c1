use cudarc::nccl::result::{group_end, group_start};
use slimpipe_mock::{driver, nccl};

use super::ranks::{Code, Rank, Type, alone, run, within};

const LENGTH: usize = 1000;

/// Passes numbers around the ring once per step; after as many steps as ranks everybody has its own.
fn ring(rank: &Rank, ranks: usize, steps: usize) -> Vec<f32> {
    let stream = &rank.stream;
    let own: Vec<f32> = (0..LENGTH).map(|i| (rank.rank * LENGTH + i) as f32).collect();
    let mut held = stream.clone_htod(&own).unwrap();
    let mut next = stream.alloc_zeros::<f32>(LENGTH).unwrap();
    for _ in 0..steps {
        group_start().unwrap();
        rank.send(&held, Type::ncclFloat32, (rank.rank + 1) % ranks).unwrap();
        rank.receive(&next, Type::ncclFloat32, (rank.rank + ranks - 1) % ranks).unwrap();
        group_end().unwrap();
        std::mem::swap(&mut held, &mut next);
    }
    stream.clone_dtoh(&held).unwrap()
}

#[test]
fn four_ranks_pass_numbers_around_in_every_order_and_send_mode() {
    let _alone = alone();
    for send in ["buffered", "rendezvous"] {
        for (streams, messages) in
            [("eager", "eager"), ("random:1:100", "random:2:100"), ("late:1", "eager")]
        {
            nccl().set("send", send);
            driver().set("order", streams);
            nccl().set("order", messages);
            let steps = 10;
            for (rank, held) in run(4, move |rank| ring(rank, 4, steps)).iter().enumerate() {
                let owner = (rank + 4 * steps - steps) % 4;
                assert_eq!(held[7], (owner * LENGTH + 7) as f32, "{send} {streams} {messages}");
            }
        }
    }
    assert_eq!(nccl().counters().get("ncclSend"), 6 * 4 * 10);
}

/// Both ranks send and then receive, without a group.
fn send_before_receive(rank: &Rank) -> f32 {
    let stream = &rank.stream;
    let own = stream.clone_htod(&[rank.rank as f32]).unwrap();
    let other = stream.alloc_zeros::<f32>(1).unwrap();
    rank.send(&own, Type::ncclFloat32, 1 - rank.rank).unwrap();
    rank.receive(&other, Type::ncclFloat32, 1 - rank.rank).unwrap();
    stream.clone_dtoh(&other).unwrap()[0]
}

#[test]
fn buffered_sends_hide_a_deadlock() {
    let _alone = alone();
    assert_eq!(run(2, send_before_receive), [1.0, 0.0]);
}

#[test]
fn rendezvous_sends_show_the_same_deadlock_and_an_abort_ends_it() {
    let _alone = alone();
    nccl().set("send", "rendezvous");
    let id = cudarc::nccl::result::get_uniqueid().unwrap();
    within("an abort", std::time::Duration::from_secs(30), move || {
        let threads = [0, 1].map(|number| {
            std::thread::spawn(move || {
                let rank = Rank::join(number, 2, id).unwrap();
                let own = rank.stream.clone_htod(&[1f32]).unwrap();
                rank.send(&own, Type::ncclFloat32, 1 - number).unwrap();
                rank.receive(&own, Type::ncclFloat32, 1 - number).unwrap();
                let done = rank.stream.record_event(None).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
                assert!(!done.is_complete(), "both sends wait for their receives");
                assert_eq!(rank.status(), Code::ncclSuccess, "nobody is told of a deadlock");
                rank.abort();
                done.synchronize().unwrap();
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn sends_and_receives_of_a_group_go_on_side_by_side() {
    let _alone = alone();
    nccl().set("send", "rendezvous");
    // Rank 0 sends to 1 and 2 in one group. Rank 1 receives from 2 first, which sends to it only
    // after it has heard from 0: whoever does the group's sends one after the other stands still.
    let answers = run(3, |rank| {
        let stream = &rank.stream;
        let of = Type::ncclInt32;
        let own = stream.clone_htod(&[10 * rank.rank as i32]).unwrap();
        let got = [(); 2].map(|_| stream.alloc_zeros::<i32>(1).unwrap());
        match rank.rank {
            0 => {
                group_start().unwrap();
                rank.send(&own, of, 1).unwrap();
                rank.send(&own, of, 2).unwrap();
                group_end().unwrap();
            }
            1 => {
                rank.receive(&got[0], of, 2).unwrap();
                rank.receive(&got[1], of, 0).unwrap();
            }
            _ => {
                rank.receive(&got[0], of, 0).unwrap();
                rank.send(&own, of, 1).unwrap();
            }
        }
        got.map(|got| stream.clone_dtoh(&got).unwrap()[0])
    });
    assert_eq!(answers, [[0, 0], [20, 0], [0, 0]]);
}

#[test]
fn a_rank_can_send_to_itself_in_a_group_and_nothing_to_anybody() {
    let _alone = alone();
    nccl().set("send", "rendezvous");
    let answers = run(1, |rank| {
        let stream = &rank.stream;
        let own = stream.clone_htod(&[5u8, 6]).unwrap();
        let got = stream.alloc_zeros::<u8>(2).unwrap();
        group_start().unwrap();
        rank.send(&own, Type::ncclUint8, 0).unwrap();
        rank.receive(&got, Type::ncclUint8, 0).unwrap();
        group_end().unwrap();
        stream.clone_dtoh(&got).unwrap()
    });
    assert_eq!(answers, [[5, 6]]);
}

#[test]
fn communication_keeps_its_place_on_the_stream() {
    let _alone = alone();
    for seed in 0..4 {
        driver().set("order", format!("random:{seed}:200"));
        let sums = run(2, |rank| {
            let mut sum = 0f32;
            for step in 0..10 {
                // The number is written, summed up and read in stream order, with no wait between.
                sum += rank.sum((rank.rank + step) as f32).unwrap();
            }
            sum
        });
        assert_eq!(sums, [100.0, 100.0]);
    }
}

#[test]
fn calls_that_cannot_be_are_refused() {
    let _alone = alone();
    run(2, |rank| {
        let data = rank.stream.alloc_zeros::<f32>(1).unwrap();
        let invalid = Err(Code::ncclInvalidArgument);
        assert_eq!(rank.send(&data, Type::ncclFloat32, 2), invalid);
        assert!(rank.last_error().contains("rank 2 of 2"), "{}", rank.last_error());
        assert_eq!(rank.send(&data, Type::ncclNumTypes, 0), invalid);
        assert_eq!(rank.status(), Code::ncclSuccess, "a refused call is no asynchronous error");
    });
    assert!(group_end().is_err(), "no group is open");
}
