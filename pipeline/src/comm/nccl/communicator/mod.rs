//! The executor's communicator on NCCL.

mod host;
mod in_place;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{CudaError, Stream};

use self::in_place::how;
use super::NcclGroup;
use super::channel::{Channel, Outbox};
use super::staging::Staging;
use crate::comm::route::rounds;
use crate::comm::{
    Bytes, BytesMut, CommError, Communicator, DeviceBytes, DeviceRoom, Lane, Payload, Reduction,
    Route, Tag,
};

/// One rank's end of a group of ranks on GPUs.
///
/// Messages of each [opened](Communicator::open) route have a group and a stream of their own; those of
/// [`Lane::Blocks`] go in the order of the collectives, for which all ranks wait anyway. A send never makes
/// the host wait, nor the computation unless `capacity` earlier ones of its lane have not been received.
pub struct NcclComm {
    group: NcclGroup,
    stream: Stream,
    staging: Staging,
    capacity: usize,
    outlets: HashMap<(u32, Lane), (Channel, Outbox)>,
    inlets: HashMap<(u32, Lane), Channel>,
    blocks: Outbox,
    /// The first rank of this process that broke off.
    broken: Arc<Mutex<Option<u32>>>,
    finished: bool,
}

impl NcclComm {
    /// The end of this rank in `group`, with room for `capacity` messages (at least one) that were not
    /// received in each lane.
    ///
    /// # Errors
    /// The GPU has no memory left, or the driver refuses.
    pub fn new(group: NcclGroup, capacity: usize) -> Result<Self, CommError> {
        Self::of_process(group, capacity, Arc::default())
    }

    /// As [`NcclComm::new`], in a process whose ranks note in `broken` which of them broke off first.
    pub(super) fn of_process(
        group: NcclGroup,
        capacity: usize,
        broken: Arc<Mutex<Option<u32>>>,
    ) -> Result<Self, CommError> {
        let context = group.context();
        let cuda = |error: CudaError| group.cuda(&error);
        let stream = Stream::new(context, Priority::High).map_err(cuda)?;
        let staging = Staging::new(context).map_err(cuda)?;
        let (outlets, inlets, capacity) = (HashMap::new(), HashMap::new(), capacity.max(1));
        let (blocks, finished) = (Outbox::default(), false);
        Ok(Self { group, stream, staging, capacity, outlets, inlets, blocks, broken, finished })
    }

    fn cuda<T>(&self, result: Result<T, CudaError>) -> Result<T, CommError> {
        result.map_err(|error| self.group.cuda(&error))
    }

    fn check(&self, rank: u32) -> Result<(), CommError> {
        let size = self.group.size();
        if rank < size && rank != self.group.rank() {
            Ok(())
        } else {
            Err(CommError::NoSuchRank { rank, size })
        }
    }

    /// The stream of collectives waits until `bytes` are written and `room` is free.
    fn await_both(&self, bytes: &DeviceBytes<'_>, room: &DeviceRoom) -> Result<(), CommError> {
        let free = self.group.mark(&room.stream)?;
        self.cuda(self.stream.wait(bytes.ready))?;
        self.cuda(self.stream.wait(&free))
    }

    /// All that this rank sent is being received, for all ranks have come to the same place.
    fn settle(&mut self) -> Result<(), CommError> {
        let outboxes = self.outlets.values_mut().map(|(_, outbox)| outbox);
        let emptied = outboxes.chain([&mut self.blocks]).try_for_each(Outbox::empty);
        self.cuda(emptied)
    }

    fn unreadable(&self, from: u32, tag: Tag, reason: &str) -> CommError {
        let [rank, from] = [self.group.rank(), from].map(|at| self.group.member(at));
        CommError::Unreadable { rank, from, tag, reason: reason.to_owned() }
    }

    fn no_route(&self, from: u32, to: u32, lane: Lane) -> CommError {
        let [from, to] = [from, to].map(|at| self.group.member(at));
        CommError::NoRoute { from, to, lane }
    }

    fn named(&self, verb: &str, tag: Tag, preposition: &str, peer: u32) -> String {
        format!("{verb} {tag} {preposition} rank {}", self.group.member(peer))
    }
}

impl Communicator for NcclComm {
    fn rank(&self) -> u32 {
        self.group.rank()
    }

    fn size(&self) -> u32 {
        self.group.size()
    }

    fn open(&mut self, routes: Vec<Route>) -> Result<(), CommError> {
        let own = self.group.rank();
        for round in rounds(routes) {
            match round.into_iter().find(|route| [route.from, route.to].contains(&own)) {
                None => self.group.abstain()?,
                Some(Route { from, to, lane }) => {
                    let pair = self.group.split_pair(from, to)?;
                    let channel = Channel::new(pair)?;
                    channel.greet(self.staging.at(0))?;
                    if from == own {
                        self.outlets.insert((to, lane), (channel, Outbox::default()));
                    } else {
                        self.inlets.insert((from, lane), channel);
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, to: u32, tag: Tag, payload: Box<dyn Payload>) -> Result<(), CommError> {
        self.check(to)?;
        let (own, lane) = (self.group.rank(), tag.lane());
        let unreadable = |reason: String| self.unreadable(own, tag, &reason);
        let bytes = payload.bytes().map_err(unreadable)?;
        if lane == Lane::Blocks {
            let what = self.named("sending", tag, "to", to);
            let (end, owner) = match bytes {
                Bytes::Host(bytes) => return self.send_bytes(to, &what, bytes),
                Bytes::Device(bytes) => {
                    self.cuda(self.stream.wait(bytes.ready))?;
                    let end = self.group.together(&what, &self.stream, |calls| {
                        // SAFETY: written by then; the payload is kept until they are sent.
                        unsafe { calls.send(bytes.at, bytes.len, to) }
                    })?;
                    (end, bytes.stream.clone())
                }
            };
            self.blocks.keep(tag, end, owner, payload);
            return Ok(());
        }
        let Bytes::Device(bytes) = bytes else {
            return Err(self.unreadable(own, tag, "it lies on the host, not on a GPU"));
        };
        let Some((channel, outbox)) = self.outlets.get_mut(&(to, lane)) else {
            return Err(self.no_route(own, to, lane));
        };
        let cuda = |error: CudaError| self.group.cuda(&error);
        outbox.make_room(tag, self.capacity).map_err(cuda)?;
        // SAFETY: the payload is kept until they are sent.
        let end = unsafe { channel.send(tag, &bytes)? };
        let owner = bytes.stream.clone();
        outbox.keep(tag, end, owner, payload);
        Ok(())
    }

    fn recv(&mut self, from: u32, tag: Tag, into: BytesMut<'_>) -> Result<(), CommError> {
        self.check(from)?;
        let lane = tag.lane();
        if lane == Lane::Blocks {
            let what = self.named("receiving", tag, "from", from);
            let room = match into {
                BytesMut::Host(bytes) => return self.recv_bytes(from, &what, bytes),
                BytesMut::Device(room) => room,
            };
            let free = self.group.mark(&room.stream)?;
            self.cuda(self.stream.wait(&free))?;
            let end = self.group.together(&what, &self.stream, |calls| {
                // SAFETY: the room is the caller's alone in the order of its stream, which waits below.
                unsafe { calls.recv(room.at, room.len, from) }
            })?;
            return self.cuda(room.stream.wait(&end));
        }
        let BytesMut::Device(room) = into else {
            return Err(self.unreadable(from, tag, "it lies on a GPU, not on the host"));
        };
        let Some(channel) = self.inlets.get(&(from, lane)) else {
            return Err(self.no_route(from, self.group.rank(), lane));
        };
        channel.recv(tag, &room)?;
        let sent = self.outlets.iter_mut().filter(|((to, _), _)| *to == from);
        for (_, (_, outbox)) in sent {
            outbox.answered(tag).map_err(|error| self.group.cuda(&error))?;
        }
        Ok(())
    }

    fn swap(
        &mut self,
        peer: u32,
        tag: Tag,
        payload: Box<dyn Payload>,
        into: BytesMut<'_>,
    ) -> Result<(), CommError> {
        self.check(peer)?;
        let what = self.named("swapping", tag, "with", peer);
        let unreadable = |reason: String| self.unreadable(self.group.rank(), tag, &reason);
        match (payload.bytes().map_err(unreadable)?, into) {
            (Bytes::Device(bytes), BytesMut::Device(room)) => {
                self.await_both(&bytes, &room)?;
                let end = self.group.together(&what, &self.stream, |calls| {
                    // SAFETY: both are written or free by then, and used again only when their streams
                    // have waited, as they do below.
                    unsafe {
                        calls.send(bytes.at, bytes.len, peer)?;
                        calls.recv(room.at, room.len, peer)
                    }
                })?;
                self.cuda(bytes.stream.wait(&end))?;
                self.cuda(room.stream.wait(&end))
            }
            (Bytes::Host(bytes), BytesMut::Host(room)) => {
                const HALF: usize = Staging::BYTES / 2;
                for (bytes, room) in bytes.chunks(HALF).zip(room.chunks_mut(HALF)) {
                    let uploaded = self.staging.upload(&self.stream, 0, bytes);
                    self.cuda(uploaded)?;
                    let [from, to] = [0, HALF].map(|at| self.staging.at(at));
                    self.group.together(&what, &self.stream, |calls| {
                        // SAFETY: inside the buffer, which is used in the order of this stream alone.
                        unsafe {
                            calls.send(from, bytes.len(), peer)?;
                            calls.recv(to, room.len(), peer)
                        }
                    })?;
                    let downloaded = self.staging.download(&self.stream, HALF, room.len());
                    self.cuda(downloaded)?;
                    self.group.wait(&self.stream)?;
                    room.copy_from_slice(self.staging.read(HALF, room.len()));
                }
                Ok(())
            }
            _ => Err(self.unreadable(peer, tag, "one side lies on the host, the other on a GPU")),
        }
    }

    fn all_reduce_sum_f64(&mut self, values: &mut [f64]) -> Result<(), CommError> {
        let what = match values.len() {
            0 => "a barrier".to_owned(),
            len => format!("a sum of {len} values"),
        };
        let all = self.all_bytes(&what, bytemuck::cast_slice(values))?;
        values.fill(0.0);
        for part in all {
            let numbers = part.chunks_exact(size_of::<f64>()).map(bytemuck::pod_read_unaligned);
            values.iter_mut().zip(numbers).for_each(|(sum, part): (_, f64)| *sum += part);
        }
        self.settle()
    }

    fn gather(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, CommError> {
        let what = "a gather";
        let lens = self.all_bytes(what, &(bytes.len() as u64).to_ne_bytes())?;
        let result = match self.group.rank() {
            0 => {
                let mut all = vec![bytes];
                for (from, len) in (0..).zip(&lens).skip(1) {
                    let mut theirs = vec![0; bytemuck::pod_read_unaligned::<u64>(len) as usize];
                    self.recv_bytes(from, what, &mut theirs)?;
                    all.push(theirs);
                }
                Some(all)
            }
            _ => {
                self.send_bytes(0, what, &bytes)?;
                None
            }
        };
        self.settle()?;
        Ok(result)
    }

    fn split(&mut self, color: u32, key: u32) -> Result<Box<dyn Communicator>, CommError> {
        let all = self.all_bytes("a split", bytemuck::cast_slice(&[color, key]))?;
        let wish = |part: &Vec<u8>| bytemuck::pod_read_unaligned::<[u32; 2]>(part);
        let mut members: Vec<(u32, u32)> = (0..)
            .zip(all.iter().map(wish))
            .filter(|(_, [theirs, _])| *theirs == color)
            .map(|(rank, [_, key])| (key, rank))
            .collect();
        members.sort_unstable();
        let members: Vec<u32> = members.into_iter().map(|(_, rank)| rank).collect();
        let group = self.group.split(color, key, &members)?;
        Ok(Box::new(Self::of_process(group, self.capacity, self.broken.clone())?))
    }

    fn reduce_scatter_f32(
        &mut self,
        op: Reduction,
        parts: &mut [BytesMut<'_>],
    ) -> Result<(), CommError> {
        let how = how(op);
        self.in_shares("a reduce-scatter", size_of::<f32>(), parts, |calls, (at, count), owner| {
            // SAFETY: as `in_shares` promises.
            unsafe { calls.reduce(at, count, how, owner) }
        })
    }

    fn all_gather(&mut self, width: usize, parts: &mut [BytesMut<'_>]) -> Result<(), CommError> {
        self.in_shares("an all-gather", width, parts, |calls, (at, count), owner| {
            // SAFETY: as `in_shares` promises.
            unsafe { calls.broadcast(at, count * width, owner) }
        })
    }

    fn reduce_f32(
        &mut self,
        root: u32,
        op: Reduction,
        values: BytesMut<'_>,
    ) -> Result<(), CommError> {
        self.in_place("a reduce", &mut [values], |calls, rooms| {
            let count = rooms[0].len / size_of::<f32>();
            // SAFETY: as `in_place` promises.
            unsafe { calls.reduce(rooms[0].at, count, how(op), root) }
        })
    }

    fn broadcast(&mut self, root: u32, bytes: BytesMut<'_>) -> Result<(), CommError> {
        self.in_place("a broadcast", &mut [bytes], |calls, rooms| {
            // SAFETY: as `in_place` promises.
            unsafe { calls.broadcast(rooms[0].at, rooms[0].len, root) }
        })
    }

    fn finish(&mut self) -> Result<(), CommError> {
        self.settle()?;
        self.outlets.values().try_for_each(|(channel, _)| channel.finish())?;
        self.inlets.values().try_for_each(Channel::finish)?;
        self.group.finish()?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for NcclComm {
    /// A rank that breaks off tells those of its process before it gives up its memory, which waits for the
    /// GPU, and so for them if they share it.
    fn drop(&mut self) {
        if !self.finished {
            let rank = self.group.member(self.group.rank());
            self.broken.lock().get_or_insert(rank);
            self.group.fail("it broke off".to_owned());
        }
    }
}
