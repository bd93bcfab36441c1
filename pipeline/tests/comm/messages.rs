//! Messages between two ranks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use slimpipe_pipeline::comm::local::{LocalComm, launch};
use slimpipe_pipeline::comm::{Bytes, CommError, Communicator, Payload, Tag};
use slimpipe_pipeline::schedule::Unit;

use crate::watchdog::Watchdog;

fn unit(slice: u32) -> Unit {
    Unit { microbatch: 1, slice, chunk: 0 }
}

/// Bytes that note which thread drops them.
struct Tracked {
    bytes: Vec<u8>,
    drops: &'static Mutex<Vec<ThreadId>>,
}

impl Payload for Tracked {
    fn bytes(&self) -> Result<Bytes<'_>, String> {
        Ok(Bytes::Host(&self.bytes))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.drops.lock().unwrap().push(std::thread::current().id());
    }
}

#[test]
fn a_message_is_copied_once_into_the_place_its_receiver_names() {
    let copied = launch(2, 2, |mut comm| -> Result<u64, CommError> {
        if comm.rank() == 0 {
            comm.send(1, Tag::Activation(unit(0)), Box::new(vec![7u8; 1000]))?;
            comm.send(1, Tag::Activation(unit(1)), Box::new(Vec::new()))?;
        } else {
            let mut memory = vec![0u8; 3000];
            comm.recv(0, Tag::Activation(unit(0)), (&mut memory[1000..2000]).into())?;
            comm.recv(0, Tag::Activation(unit(1)), (&mut []).into())?;
            assert!(memory[..1000].iter().chain(&memory[2000..]).all(|&byte| byte == 0));
            assert!(memory[1000..2000].iter().all(|&byte| byte == 7));
        }
        comm.barrier()?;
        Ok(comm.bytes_copied())
    });
    assert_eq!(copied, Ok(vec![1000, 1000]));
}

#[test]
fn payloads_are_dropped_by_their_sender_and_all_of_them_once_a_barrier_is_passed() {
    static DROPS: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());
    let threads = launch(2, 4, |mut comm| -> Result<ThreadId, CommError> {
        for slice in 0..50 {
            let tag = Tag::Gradient(unit(slice));
            if comm.rank() == 0 {
                comm.send(1, tag, Box::new(Tracked { bytes: vec![0; 8], drops: &DROPS }))?;
            } else {
                comm.recv(0, tag, (&mut [0; 8]).into())?;
            }
        }
        comm.barrier()?;
        let id = std::thread::current().id();
        if comm.rank() == 0 {
            assert_eq!(*DROPS.lock().unwrap(), [id; 50]);
        }
        Ok(id)
    });
    assert_eq!(threads.unwrap().len(), 2);
}

#[test]
fn a_lane_keeps_its_order_and_never_holds_more_than_its_room() {
    let _watchdog = Watchdog::new("order");
    for capacity in [1, 2, 5] {
        let sent = AtomicUsize::new(0);
        launch(2, capacity, |mut comm| -> Result<(), CommError> {
            for slice in 0..500u32 {
                let tag = Tag::Activation(unit(slice));
                if comm.rank() == 0 {
                    comm.send(1, tag, Box::new(slice.to_le_bytes().to_vec()))?;
                    sent.fetch_add(1, Ordering::SeqCst);
                } else {
                    // As many were read as this one's number.
                    assert!(sent.load(Ordering::SeqCst) <= slice as usize + capacity);
                    let mut bytes = [0; 4];
                    comm.recv(0, tag, (&mut bytes).into())?;
                    assert_eq!(u32::from_le_bytes(bytes), slice);
                }
            }
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_full_lane_does_not_hold_up_the_others() {
    let _watchdog = Watchdog::new("lanes");
    let tags = [(0, Tag::Activation(unit(0))), (1, Tag::Gradient(unit(0))), (2, Tag::Block(0))];
    launch(2, 1, |mut comm| -> Result<(), CommError> {
        if comm.rank() == 0 {
            for (byte, tag) in tags {
                comm.send(1, tag, Box::new(vec![byte]))?;
            }
            return Ok(());
        }
        for (byte, tag) in tags.into_iter().rev() {
            let mut bytes = [9];
            comm.recv(0, tag, (&mut bytes).into())?;
            assert_eq!(bytes, [byte]);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn another_message_than_the_one_asked_for_is_an_error_that_names_both() {
    let outcome = |tag: Tag, len: usize| {
        launch(2, 1, |mut comm| -> Result<(), CommError> {
            match comm.rank() {
                0 => comm.send(1, Tag::Activation(unit(3)), Box::new(vec![0; 4])),
                _ => comm.recv(0, tag, (&mut vec![0; len]).into()),
            }
        })
    };
    assert_eq!(outcome(Tag::Activation(unit(3)), 4), Ok(vec![(), ()]));
    assert_eq!(
        outcome(Tag::Activation(unit(2)), 4).unwrap_err().to_string(),
        "rank 1 expected activation 1.2:0 of 4 bytes from rank 0, got activation 1.3:0 of 4 bytes"
    );
    assert!(matches!(
        outcome(Tag::Activation(unit(3)), 5),
        Err(CommError::Mismatch { rank: 1, from: 0, bytes: 5, got_bytes: 4, .. })
    ));
}

#[test]
fn a_rank_has_no_messages_for_itself_or_strangers() {
    let mut comm = LocalComm::group(2, 1).remove(0);
    for rank in [0, 2, u32::MAX] {
        let error = Err(CommError::NoSuchRank { rank, size: 2 });
        assert_eq!(comm.send(rank, Tag::Block(0), Box::new(Vec::new())), error);
        assert_eq!(comm.recv(rank, Tag::Block(0), (&mut []).into()), error);
    }
    assert!(matches!(comm.broadcast(2, (&mut []).into()), Err(CommError::NoSuchRank { .. })));
}
