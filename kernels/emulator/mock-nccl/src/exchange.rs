//! Sends and receives that go on side by side, as those of a group do.

use std::{thread, time::Duration};

use slimpipe_mock_protocol::{door::Refusal, order::Order, random::Random};

use crate::{
    comm::{Comm, Membership},
    failure::Failure,
    mailbox::Departure,
    message::{Kind, Lane, Message},
    settings::{self, SendMode},
};

/// Why an operation did not end.
#[derive(Debug)]
pub enum Stop {
    /// The communicator was aborted.
    Aborted,
    /// Something is wrong.
    Failed(Failure),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Failure::from(refusal).into()
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// Bytes for a rank.
#[derive(Debug)]
pub struct Outgoing {
    /// The rank in the communicator.
    pub to: usize,
    /// What the sender believes to be doing.
    pub tag: String,
    /// The bytes.
    pub body: Vec<u8>,
}

/// Bytes that are expected from a rank.
#[derive(Debug)]
pub struct Incoming {
    /// The rank in the communicator.
    pub from: usize,
    /// What the receiver believes to be doing.
    pub tag: String,
}

/// Sends and receives until all is done; gives what was received, in order. Between two ranks order
/// is kept, otherwise whatever can go on does.
///
/// # Errors
/// An abort, a rank that has gone, ranks that do different things.
pub fn exchange(
    comm: &Comm,
    lane: Lane,
    outgoing: Vec<Outgoing>,
    incoming: &[Incoming],
) -> Result<Vec<Vec<u8>>, Stop> {
    let group = comm.ready()?;
    let mailbox = &group.world.mailbox;
    let rendezvous = settings::with(|s| s.send) == SendMode::Rendezvous;
    if rendezvous {
        for receive in incoming {
            say(group, receive.from, Kind::Ready, lane, String::new(), Vec::new());
        }
    }
    let mut pauses = Pauses::new(group);
    let mut outgoing: Vec<Option<Outgoing>> = outgoing.into_iter().map(Some).collect();
    let mut received: Vec<Option<Vec<u8>>> = incoming.iter().map(|_| None).collect();
    loop {
        let version = mailbox.version();
        if comm.is_aborted() {
            return Err(Stop::Aborted);
        }
        for place in &mut outgoing {
            let Some(to) = place.as_ref().map(|send| send.to) else { continue };
            if (!rendezvous || mailbox.take_ready(group.channel(to, lane)))
                && let Some(Outgoing { tag, body, .. }) = place.take()
            {
                pauses.pause();
                say(group, to, Kind::Data, lane, tag, body);
            }
        }
        for (place, expected) in received.iter_mut().zip(incoming) {
            if place.is_none()
                && let Some((tag, body)) = mailbox.take(group.channel(expected.from, lane))
            {
                *place = Some(check(group, lane, expected, tag, body)?);
            }
        }
        let left_to_send = outgoing.iter().flatten().map(|send| send.to);
        let left_to_receive = received.iter().zip(incoming).filter(|(place, _)| place.is_none());
        let mut waits_for =
            left_to_send.chain(left_to_receive.map(|(_, expected)| expected.from)).peekable();
        if waits_for.peek().is_none() {
            return Ok(received.into_iter().flatten().collect());
        }
        if let Some(alarm) = mailbox.alarm(group.number) {
            return Err(Failure::usage(alarm).into());
        }
        for rank in waits_for {
            let gone = mailbox.departure(group.members[rank]);
            let how = match gone {
                None => continue,
                Some(Departure::Left) => "has left the communicator",
                Some(Departure::Lost) => "is gone: its connection broke",
            };
            // What it said last may have come while we looked.
            if mailbox.version() == version {
                return Err(Failure::remote(format!("rank {rank} {how}")).into());
            }
        }
        mailbox.wait(version);
    }
}

fn say(group: &Membership, to: usize, kind: Kind, lane: Lane, tag: String, body: Vec<u8>) {
    let from = group.world.rank;
    let message = Message { kind, comm: group.number, from, lane, tag, body };
    group.world.send(group.members[to], message);
}

/// What was received, if both sides mean the same. If not, all members are told.
fn check(
    group: &Membership,
    lane: Lane,
    expected: &Incoming,
    tag: String,
    body: Vec<u8>,
) -> Result<Vec<u8>, Stop> {
    if tag == expected.tag {
        return Ok(body);
    }
    let Incoming { from, tag: own } = expected;
    let rank = group.rank;
    let text = format!("rank {rank} expects \"{own}\" of rank {from}, which sent \"{tag}\"");
    for member in (0..group.members.len()).filter(|member| *member != rank) {
        say(group, member, Kind::Alarm, lane, text.clone(), Vec::new());
    }
    Err(Failure::usage(text).into())
}

/// Random pauses before messages, if the settings want them.
struct Pauses(Option<(Random, Duration)>);

impl Pauses {
    fn new(group: &Membership) -> Pauses {
        let Order::Random { seed, most } = settings::with(|s| s.order) else { return Pauses(None) };
        let version = group.world.mailbox.version();
        let rank = u64::from(group.world.rank);
        Pauses(Some((Random::new(seed ^ rank << 48 ^ version), most)))
    }

    fn pause(&mut self) {
        if let Some((random, most)) = &mut self.0
            && random.below(2) == 1
        {
            thread::sleep(Duration::from_nanos(random.below(most.as_nanos() as u64)));
        }
    }
}
