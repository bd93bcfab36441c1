//! Messages one way between two ranks: a group of two and a stream of their own on each side.
//!
//! The library does what one group is given in its order, and a send waits for its receive. So lanes that
//! must not wait for each other have groups of their own: what a channel waits for is the other side's
//! computation alone, never another message of this rank.

use std::collections::VecDeque;
use std::sync::Arc;

use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{CudaError, DevicePtr, PooledEvent, Stream};

use super::NcclGroup;
use crate::comm::{CommError, DeviceBytes, DeviceRoom, Payload, Tag};

/// A group of two and its stream.
pub(super) struct Channel {
    group: NcclGroup,
    stream: Stream,
    /// The other side among all ranks.
    peer: u32,
    /// And in the group.
    at: u32,
}

impl Channel {
    /// One over `group`, whose first rank sends to its second.
    pub(super) fn new(group: NcclGroup) -> Result<Self, CommError> {
        let context = group.context();
        let stream = Stream::new(context, Priority::High).map_err(|error| group.cuda(&error))?;
        let at = 1 - group.rank();
        Ok(Self { peer: group.member(at), at, group, stream })
    }

    /// Sends or receives one number at `room`, of four bytes, and waits for it: the library connects two
    /// ranks with their first message, which both must have begun by then.
    pub(super) fn greet(&self, room: DevicePtr) -> Result<(), CommError> {
        let what = format!("connecting to rank {}", self.peer);
        self.group.together(&what, &self.stream, |calls| {
            // SAFETY: the caller's room, which nobody else uses until the stream was waited for.
            unsafe {
                match self.at {
                    1 => calls.send(room, 4, self.at),
                    _ => calls.recv(room, 4, self.at),
                }
            }
        })?;
        self.group.wait(&self.stream)
    }

    /// Enqueues the message `tag` from `bytes`, when they are written; gives the mark where they are sent.
    ///
    /// # Safety
    /// They stay until then.
    pub(super) unsafe fn send(
        &self,
        tag: Tag,
        bytes: &DeviceBytes<'_>,
    ) -> Result<Arc<PooledEvent>, CommError> {
        self.stream.wait(bytes.ready).map_err(|error| self.group.cuda(&error))?;
        let what = format!("sending {tag} to rank {}", self.peer);
        self.group.together(&what, &self.stream, |calls| {
            // SAFETY: written by then, and they stay by the caller's promise.
            unsafe { calls.send(bytes.at, bytes.len, self.at) }
        })
    }

    /// Enqueues the receipt of the message `tag` into `room`, in the order of its stream.
    pub(super) fn recv(&self, tag: Tag, room: &DeviceRoom) -> Result<(), CommError> {
        let cuda = |error: CudaError| self.group.cuda(&error);
        let free = self.group.mark(&room.stream)?;
        self.stream.wait(&free).map_err(cuda)?;
        let what = format!("receiving {tag} from rank {}", self.peer);
        let end = self.group.together(&what, &self.stream, |calls| {
            // SAFETY: the room is the caller's alone in the order of its stream, which goes on only when
            // the message is there.
            unsafe { calls.recv(room.at, room.len, self.at) }
        })?;
        room.stream.wait(&end).map_err(cuda)
    }

    /// Ends the group.
    pub(super) fn finish(&self) -> Result<(), CommError> {
        self.group.finish()
    }
}

/// Messages whose bytes may not have left yet.
#[derive(Default)]
pub(super) struct Outbox(VecDeque<Sent>);

struct Sent {
    tag: Tag,
    end: Arc<PooledEvent>,
    /// The stream in whose order the bytes' memory is used again.
    owner: Stream,
    payload: Box<dyn Payload>,
}

impl Sent {
    /// Lets go of the bytes, to be used again when they have left: for their owner's stream that is no wait
    /// if they have.
    fn let_go(self) -> Result<(), CudaError> {
        self.owner.wait(&self.end)?;
        drop(self.payload);
        Ok(())
    }
}

impl Outbox {
    /// Keeps `payload`, the message `tag` whose memory is used in the order of `owner`, until `end`.
    pub(super) fn keep(
        &mut self,
        tag: Tag,
        end: Arc<PooledEvent>,
        owner: Stream,
        payload: Box<dyn Payload>,
    ) {
        self.0.push_back(Sent { tag, end, owner, payload });
    }

    /// Lets go of what must have left when the message `next` is sent: with room for `capacity` messages, or
    /// by the rule of attention that is shared, where a layer's messages are read before those of the layer
    /// after the next are sent.
    pub(super) fn make_room(&mut self, next: Tag, capacity: usize) -> Result<(), CudaError> {
        while let Some(oldest) = self.0.front() {
            let is_over = match next.lane().is_bounded() {
                true => self.0.len() >= capacity,
                false => self.layers_since_oldest(next) > 2,
            };
            if !is_over && !oldest.end.is_done()? {
                break;
            }
            if let Some(oldest) = self.0.pop_front() {
                oldest.let_go()?;
            }
        }
        Ok(())
    }

    /// How many layers' messages there are with `next`.
    fn layers_since_oldest(&self, next: Tag) -> usize {
        let layer = |tag: Tag| match tag {
            Tag::Attention { unit, layer, .. } => Some((unit, layer)),
            _ => None,
        };
        let tags = self.0.iter().map(|sent| sent.tag).chain([next]);
        let mut layers: Vec<_> = tags.filter_map(layer).collect();
        layers.dedup();
        layers.len()
    }

    /// Lets go of messages that `answer` could come only after.
    pub(super) fn answered(&mut self, answer: Tag) -> Result<(), CudaError> {
        let Tag::Gradient(unit) = answer else { return Ok(()) };
        // A gradient comes when all stages have run the slice forward.
        let is_read = |tag: Tag| match tag {
            Tag::Activation(of) => (of.microbatch, of.slice) == (unit.microbatch, unit.slice),
            _ => false,
        };
        let (read, kept) = self.0.drain(..).partition(|sent| is_read(sent.tag));
        self.0 = kept;
        let read: VecDeque<Sent> = read;
        read.into_iter().try_for_each(Sent::let_go)
    }

    /// Lets go of everything: all of it is being received.
    pub(super) fn empty(&mut self) -> Result<(), CudaError> {
        self.0.drain(..).try_for_each(Sent::let_go)
    }
}
