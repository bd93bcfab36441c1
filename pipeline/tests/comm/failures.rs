//! A rank that fails, panics or ends too early: every other rank gets an error, none hangs.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use slimpipe_pipeline::comm::local::{LocalComm, launch};
use slimpipe_pipeline::comm::{Bytes, CommError, Communicator, Payload, Reduction, Tag};
use slimpipe_pipeline::schedule::Unit;

use crate::watchdog::Watchdog;

/// An error of a rank's own, or the communicator's.
#[derive(Debug, PartialEq)]
enum Error {
    Own(u32),
    Comm(CommError),
}

impl From<CommError> for Error {
    fn from(error: CommError) -> Self {
        Self::Comm(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(rank) => write!(f, "rank {rank} ran out of luck"),
            Self::Comm(error) => error.fmt(f),
        }
    }
}

fn tag(slice: u32) -> Tag {
    Tag::Activation(Unit { microbatch: 0, slice, chunk: 0 })
}

type Call = fn(&mut LocalComm) -> Result<(), CommError>;

/// Everything that can wait for rank 0 for ever.
const WAITS: [Call; 8] = [
    |comm| comm.recv(0, tag(0), (&mut [0]).into()),
    |comm| (0..9).try_for_each(|slice| comm.send(0, tag(slice), Box::new(vec![0]))),
    |comm| comm.barrier(),
    |comm| comm.all_reduce_sum_f64(&mut [1.0]),
    |comm| comm.gather(vec![1]).map(drop),
    |comm| comm.broadcast(0, (&mut [0; 8]).into()),
    |comm| comm.reduce_f32(1, Reduction::Sum, [0f32; 8].as_mut_slice().into()),
    |comm| comm.swap(0, Tag::Block(0), Box::new(vec![0; 8]), (&mut [0; 8]).into()),
];

#[test]
fn whatever_a_rank_waits_for_it_is_told_when_another_fails() {
    let _watchdog = Watchdog::new("failure");
    for wait in WAITS {
        for panics in [false, true] {
            let told = Mutex::new(Vec::new());
            let outcome = launch(4, 2, |mut comm| -> Result<(), Error> {
                if comm.rank() == 0 {
                    assert!(!panics, "out of luck");
                    return Err(Error::Own(0));
                }
                let error = wait(&mut comm).unwrap_err();
                told.lock().unwrap().push(error.clone());
                Err(error.into())
            });
            let reason = match outcome.unwrap_err() {
                Error::Own(0) => "rank 0 ran out of luck".to_owned(),
                Error::Comm(CommError::PeerFailed { rank: 0, reason }) if panics => reason,
                other => panic!("{other}"),
            };
            assert!(reason.contains("out of luck"), "{reason}");
            let expected = CommError::PeerFailed { rank: 0, reason };
            assert_eq!(told.into_inner().unwrap(), vec![expected; 3]);
        }
    }
}

#[test]
fn whatever_a_rank_waits_for_it_is_told_when_another_ends() {
    let _watchdog = Watchdog::new("end");
    for wait in WAITS {
        // Again and again, so that the other ends before the wait begins and while it lasts.
        for round in 0..40 {
            let (about_to_wait, awaited) = channel();
            let (about_to_wait, awaited) = (Mutex::new(about_to_wait), Mutex::new(awaited));
            let outcome = launch(2, 2, |mut comm| {
                if comm.rank() == 1 {
                    about_to_wait.lock().unwrap().send(()).unwrap();
                    return wait(&mut comm);
                }
                if round > 0 {
                    awaited.lock().unwrap().recv().unwrap();
                }
                (0..round * 10).for_each(|_| std::thread::yield_now());
                Ok(())
            });
            assert_eq!(outcome, Err(CommError::PeerLeft { rank: 1, peer: 0 }));
        }
    }
}

#[test]
fn what_a_rank_sent_before_it_ended_still_arrives() {
    let received = launch(2, 3, |mut comm| -> Result<Vec<u8>, CommError> {
        let mut bytes = vec![0; 3];
        match comm.rank() {
            0 => (0..3).try_for_each(|i| comm.send(1, tag(i), Box::new(vec![i as u8 + 1])))?,
            _ => (0..3)
                .try_for_each(|i| comm.recv(0, tag(i), (&mut bytes[i as usize..][..1]).into()))?,
        }
        Ok(bytes)
    });
    assert_eq!(received, Ok(vec![vec![0; 3], vec![1, 2, 3]]));
}

#[test]
fn a_call_after_a_failure_fails_too() {
    let _watchdog = Watchdog::new("after");
    let outcome = launch(2, 2, |mut comm| -> Result<(), Error> {
        if comm.rank() == 0 {
            return Err(Error::Own(0));
        }
        let first = comm.barrier().unwrap_err();
        // The first answer was no accident: a rank that goes on is told again.
        assert_eq!(comm.send(0, tag(0), Box::new(vec![0])), Err(first.clone()));
        assert_eq!(comm.barrier(), Err(first));
        Ok(())
    });
    assert_eq!(outcome, Err(Error::Own(0)));
}

/// Bytes that are gone when the receiver comes for them.
struct Gone;

impl Payload for Gone {
    fn bytes(&self) -> Result<Bytes<'_>, String> {
        Err("its unit was closed".to_owned())
    }
}

#[test]
fn a_message_that_its_sender_took_back_is_blamed_on_what_befell_the_sender() {
    let _watchdog = Watchdog::new("gone");
    // Rank 2 fails because of rank 1, which fails because of what rank 0 tells last of all.
    let (ended, all_ended) = channel();
    let (ended, all_ended) = (Mutex::new(ended), Mutex::new(all_ended));
    let outcome = launch(3, 1, |mut comm| -> Result<(), Error> {
        match comm.rank() {
            0 => {
                comm.send(1, tag(0), Box::new(Gone))?;
                all_ended.lock().unwrap().recv().unwrap();
                Err(Error::Own(0))
            }
            1 => Ok(comm.recv(0, tag(0), (&mut [0]).into())?),
            _ => {
                let result = comm.recv(1, tag(0), (&mut [0]).into());
                ended.lock().unwrap().send(()).unwrap();
                Ok(result?)
            }
        }
    });
    assert_eq!(outcome, Err(Error::Own(0)));
    let outcome = launch(2, 1, |mut comm| match comm.rank() {
        0 => comm.send(1, tag(0), Box::new(Gone)),
        _ => comm.recv(0, tag(0), (&mut [0]).into()),
    });
    assert!(matches!(outcome, Err(CommError::Unreadable { rank: 1, from: 0, .. })), "{outcome:?}");
}

/// A small generator: the runs are the same every time.
fn next(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32
}

/// One step of a random run, the same on all ranks: some send, some receive, or all meet.
fn act(comm: &mut LocalComm, choice: u32, step: u32) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    match choice % 6 {
        0..=2 => {
            let shift = 1 + choice / 6 % (size - 1);
            let (to, from) = ((rank + shift) % size, (rank + size - shift) % size);
            comm.send(to, tag(step), Box::new(vec![rank as u8; 64]))?;
            let mut bytes = [0; 64];
            comm.recv(from, tag(step), (&mut bytes).into())?;
            assert_eq!(bytes, [from as u8; 64]);
            Ok(())
        }
        3 => comm.all_reduce_sum_f64(&mut [1.0; 3]),
        4 => comm.gather(vec![0; 16]).map(drop),
        _ => comm.broadcast(choice / 6 % size, (&mut [0; 100]).into()),
    }
}

#[test]
fn ranks_that_fail_or_panic_anywhere_never_leave_another_hanging() {
    let _watchdog = Watchdog::new("injected failures");
    const STEPS: u32 = 40;
    for seed in 0..200 {
        let mut state = seed;
        let choices: Vec<u32> = (0..STEPS).map(|_| next(&mut state)).collect();
        // One or two ranks fail, at random; sometimes both at the same step.
        let culprits: Vec<(u32, u32, bool)> = (0..1 + next(&mut state) % 2)
            .map(|_| {
                (next(&mut state) % 4, next(&mut state) % STEPS, next(&mut state).is_multiple_of(2))
            })
            .collect();
        let ended = AtomicU32::new(0);
        let outcome = launch(4, 1 + seed as usize % 3, |mut comm| -> Result<(), Error> {
            let result = (0..).zip(&choices).try_for_each(|(step, &choice)| {
                match culprits.iter().find(|c| (c.0, c.1) == (comm.rank(), step)) {
                    Some(&(_, _, true)) => {
                        ended.fetch_add(1, Ordering::SeqCst);
                        panic!("out of luck")
                    }
                    Some(&(rank, _, false)) => Err(Error::Own(rank)),
                    None => Ok(act(&mut comm, choice, step)?),
                }
            });
            ended.fetch_add(1, Ordering::SeqCst);
            result
        });
        // A failure of the last steps may come after others have ended, but it is never lost.
        let rank = match outcome {
            Err(Error::Own(rank)) => rank,
            Err(Error::Comm(CommError::PeerFailed { rank, reason })) => {
                assert!(reason.contains("out of luck"), "seed {seed}: {reason}");
                rank
            }
            other => panic!("seed {seed}: {other:?}"),
        };
        assert!(culprits.iter().any(|culprit| culprit.0 == rank), "seed {seed}: rank {rank}");
        assert_eq!(ended.into_inner(), 4, "seed {seed}");
    }
}
