//! Ranks that are threads of one process.
//!
//! A message is a handle: the receiver copies the bytes out of the sender's memory into the place
//! it named, once, and hands the handle back, so that the sender's thread frees it. One lock and one
//! condition per group are enough: messages are few and large.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{CommError, Communicator, Payload, Tag};

/// Elements of one block of [`Communicator::exchange_add_f32`]: 256 KiB.
const BLOCK: usize = 1 << 16;

#[derive(Default)]
struct Shared {
    queues: HashMap<(u32, u32), VecDeque<(Tag, Payload)>>,
    /// Payloads that were read, for their sender to drop.
    read: HashMap<u32, Vec<Payload>>,
    failed: Option<(u32, String)>,
    reduce: Reduce,
    gathered: Vec<Option<Vec<u8>>>,
    bytes_copied: u64,
}

/// A reduction in progress: contributions by rank, then the result until everyone has read it.
#[derive(Default)]
struct Reduce {
    parts: HashMap<u32, Vec<f64>>,
    result: Option<Vec<f64>>,
    readers: u32,
}

struct Group {
    size: u32,
    capacity: usize,
    shared: Mutex<Shared>,
    changed: Condvar,
}

/// One rank's end of a group of threads.
pub struct LocalComm {
    rank: u32,
    group: Arc<Group>,
}

impl Group {
    /// Waits until `ready` gives something; fails as soon as some rank has.
    fn wait<R>(&self, mut ready: impl FnMut(&mut Shared) -> Option<R>) -> Result<R, CommError> {
        let mut shared = self.shared.lock();
        loop {
            if let Some((rank, reason)) = &shared.failed {
                return Err(CommError::PeerFailed { rank: *rank, reason: reason.clone() });
            }
            if let Some(result) = ready(&mut shared) {
                drop(shared);
                self.changed.notify_all();
                return Ok(result);
            }
            self.changed.wait(&mut shared);
        }
    }

    fn fail(&self, rank: u32, reason: String) {
        self.shared.lock().failed.get_or_insert((rank, reason));
        self.changed.notify_all();
    }
}

impl LocalComm {
    /// A group of `size` ranks on this process, with room for `capacity` unread messages from each
    /// rank to each other.
    pub fn group(size: u32, capacity: usize) -> Vec<Self> {
        let shared = Shared { gathered: vec![None; size as usize], ..Shared::default() };
        let group = Group {
            size,
            capacity: capacity.max(1),
            shared: Mutex::new(shared),
            changed: Condvar::new(),
        };
        let group = Arc::new(group);
        (0..size).map(|rank| Self { rank, group: group.clone() }).collect()
    }

    /// Bytes that all receives of the group copied so far.
    pub fn bytes_copied(&self) -> u64 {
        self.group.shared.lock().bytes_copied
    }

    fn check(&self, rank: u32) -> Result<(), CommError> {
        let size = self.group.size;
        if rank < size && rank != self.rank {
            Ok(())
        } else {
            Err(CommError::NoSuchRank { rank, size })
        }
    }

    /// Drops payloads that were read, on the thread whose memory they are.
    fn drop_read(&self) {
        let read = self.group.shared.lock().read.remove(&self.rank);
        drop(read);
    }
}

impl Communicator for LocalComm {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn size(&self) -> u32 {
        self.group.size
    }

    fn send(&mut self, to: u32, tag: Tag, payload: Payload) -> Result<(), CommError> {
        self.check(to)?;
        self.drop_read();
        let mut payload = Some(payload);
        self.group.wait(|shared| {
            let queue = shared.queues.entry((self.rank, to)).or_default();
            if queue.len() >= self.group.capacity {
                return None;
            }
            queue.extend(payload.take().map(|payload| (tag, payload)));
            Some(())
        })
    }

    fn recv(&mut self, from: u32, tag: Tag, into: &mut [u8]) -> Result<(), CommError> {
        self.check(from)?;
        self.drop_read();
        let (got, payload) =
            self.group.wait(|shared| shared.queues.get_mut(&(from, self.rank))?.pop_front())?;
        let bytes = (*payload).as_ref();
        if got != tag || bytes.len() != into.len() {
            let (rank, expected) = (self.rank, tag.0);
            return Err(CommError::Mismatch {
                rank,
                from,
                expected,
                bytes: into.len(),
                got: got.0,
                got_bytes: bytes.len(),
            });
        }
        into.copy_from_slice(bytes);
        let mut shared = self.group.shared.lock();
        shared.bytes_copied += into.len() as u64;
        shared.read.entry(from).or_default().push(payload);
        Ok(())
    }

    fn all_reduce_sum_f64(&mut self, values: &mut [f64]) -> Result<(), CommError> {
        self.drop_read();
        let size = self.group.size;
        let mut part = Some(values.to_vec());
        // Wait for the previous reduction to be read by all, then contribute.
        self.group.wait(|shared| {
            if shared.reduce.result.is_some() {
                return None;
            }
            let parts = &mut shared.reduce.parts;
            parts.insert(self.rank, part.take()?);
            if parts.len() as u32 == size {
                let parts = std::mem::take(parts);
                let mut sum = vec![0.0; values.len()];
                for rank in 0..size {
                    sum.iter_mut().zip(&parts[&rank]).for_each(|(sum, part)| *sum += part);
                }
                shared.reduce.result = Some(sum);
                shared.reduce.readers = size;
            }
            Some(())
        })?;
        let sum = self.group.wait(|shared| {
            let sum = shared.reduce.result.clone()?;
            shared.reduce.readers -= 1;
            if shared.reduce.readers == 0 {
                shared.reduce.result = None;
            }
            Some(sum)
        })?;
        values.iter_mut().zip(sum).for_each(|(value, sum)| *value = sum);
        Ok(())
    }

    fn exchange_add_f32(&mut self, peer: u32, values: &mut [f32]) -> Result<(), CommError> {
        for (index, block) in values.chunks_mut(BLOCK).enumerate() {
            let tag = Tag(u64::MAX - index as u64);
            self.send(peer, tag, Box::new(bytemuck::cast_slice::<f32, u8>(block).to_vec()))?;
            let mut other = vec![0f32; block.len()];
            self.recv(peer, tag, bytemuck::cast_slice_mut(&mut other))?;
            // The lower rank's values come first; two additions commute, so both get the same bits.
            block.iter_mut().zip(&other).for_each(|(own, other)| *own += other);
        }
        Ok(())
    }

    fn gather(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, CommError> {
        self.drop_read();
        let mut bytes = Some(bytes);
        self.group.wait(|shared| {
            let slot = &mut shared.gathered[self.rank as usize];
            if slot.is_some() {
                return None; // rank 0 has not taken the last round yet
            }
            *slot = bytes.take();
            Some(())
        })?;
        if self.rank != 0 {
            return Ok(None);
        }
        let all = self.group.wait(|shared| {
            shared
                .gathered
                .iter()
                .all(Option::is_some)
                .then(|| shared.gathered.iter_mut().filter_map(Option::take).collect())
        })?;
        Ok(Some(all))
    }
}

/// Runs `body` on `size` threads, one per rank, and gives what each returned, by rank.
///
/// If a rank fails or panics, every other rank's current or next communication fails too, and the
/// first failure is what is returned: nobody hangs.
///
/// # Errors
/// The error of the rank that failed first; a panic counts as `CommError::PeerFailed`.
pub fn launch<T, E>(
    size: u32,
    capacity: usize,
    body: impl Fn(LocalComm) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E>
where
    T: Send,
    E: From<CommError> + std::fmt::Display + Send,
{
    let comms = LocalComm::group(size, capacity);
    let Some(group) = comms.first().map(|comm| comm.group.clone()) else { return Ok(Vec::new()) };
    let body = &body;
    let results: Vec<Result<T, E>> = std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for comm in comms {
            let (rank, group) = (comm.rank, group.clone());
            let failing = group.clone();
            let run = move || {
                let result =
                    catch_unwind(AssertUnwindSafe(|| body(comm))).unwrap_or_else(|panic| {
                        let reason = panic_message(&*panic);
                        Err(CommError::PeerFailed {
                            rank,
                            reason: format!("it panicked: {reason}"),
                        }
                        .into())
                    });
                if let Err(error) = &result {
                    failing.fail(rank, error.to_string());
                }
                result
            };
            let spawned =
                std::thread::Builder::new().name(format!("rank-{rank}")).spawn_scoped(scope, run);
            match spawned {
                Ok(handle) => handles.push(Ok(handle)),
                Err(error) => {
                    group.fail(rank, error.to_string());
                    handles.push(Err(CommError::Spawn { rank, reason: error.to_string() }));
                }
            }
        }
        handles
            .into_iter()
            .enumerate()
            .map(|(rank, handle)| match handle {
                Ok(handle) => handle.join().unwrap_or_else(|panic| {
                    let (rank, reason) = (rank as u32, panic_message(&*panic));
                    Err(CommError::PeerFailed { rank, reason }.into())
                }),
                Err(error) => Err(error.into()),
            })
            .collect()
    });
    let first = group.shared.lock().failed.as_ref().map(|(rank, _)| *rank as usize);
    match first {
        Some(first) => {
            Err(results.into_iter().nth(first).and_then(Result::err).unwrap_or_else(|| {
                CommError::PeerFailed { rank: first as u32, reason: "unknown".to_owned() }.into()
            }))
        }
        None => results.into_iter().collect(),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
