//! A rank among all ranks that were brought together by one unique id.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    link::Link,
    mailbox::Mailbox,
    message::{Kind, Message},
};

/// What one rank has of its world. Communicators that are split off share it.
pub struct World {
    /// The rank.
    pub rank: u32,
    /// What has arrived for it.
    pub mailbox: Arc<Mailbox>,
    links: Vec<Link>,
    /// It says nothing any more.
    dead: AtomicBool,
    /// The others shall not learn that it goes.
    silent: AtomicBool,
}

impl World {
    /// The rank `rank`, with a way to each rank, itself included.
    pub fn new(rank: u32, mailbox: Arc<Mailbox>, links: Vec<Link>) -> World {
        let (dead, silent) = Default::default();
        World { rank, mailbox, links, dead, silent }
    }

    /// Says something to a rank. A dead rank says nothing.
    pub fn send(&self, to: u32, message: Message) {
        if !self.dead.load(Ordering::Acquire) {
            self.links[to as usize].send(message);
        }
    }

    /// Ends as a process that is killed: connections break.
    pub fn die(&self) {
        if !self.dead.swap(true, Ordering::AcqRel) {
            self.others().for_each(|link| link.cut(self.rank));
        }
    }

    /// Has the others go on waiting, untold, when this rank goes: it was aborted.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::Release);
    }

    fn others(&self) -> impl Iterator<Item = &Link> {
        let own = self.rank as usize;
        self.links.iter().enumerate().filter(move |(rank, _)| *rank != own).map(|(_, link)| link)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let silent = self.silent.load(Ordering::Acquire);
        let kind = if silent { Kind::Aborted } else { Kind::Leaving };
        if !self.dead.load(Ordering::Acquire) {
            for link in self.others() {
                link.send(Message::of_rank(kind, self.rank));
                link.close();
            }
        }
    }
}
