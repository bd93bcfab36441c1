//! Collective operations, made of sends and receives.

use cudarc::nccl::sys::ncclDataType_t;
use slimpipe_mock_protocol::door::Driver;

use crate::{
    comm::Comm,
    element::Reduction,
    exchange::{Incoming, Outgoing, Stop, exchange},
    message::Lane,
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Everybody gets all parts.
    AllGather,
    /// Everybody gets the parts combined.
    AllReduce(Reduction),
    /// Everybody gets the root's part.
    Broadcast {
        /// Whose part.
        root: usize,
    },
    /// The root gets the parts combined.
    Reduce {
        /// Who gets it.
        root: usize,
        /// How they are combined.
        reduction: Reduction,
    },
    /// Everybody gets its share of the parts combined.
    ReduceScatter(Reduction),
}

/// A collective operation of one rank.
#[derive(Clone, Copy, Debug)]
pub struct Collective {
    /// What is done.
    pub what: What,
    /// Which of its communicator's collectives it is.
    pub number: u64,
    /// Where this rank's part is.
    pub source: u64,
    /// Where the result goes.
    pub target: u64,
    /// Elements, as NCCL counts them for the function.
    pub count: usize,
    /// Their type.
    pub of: ncclDataType_t,
    /// Bytes of an element.
    pub size: usize,
}

impl Collective {
    /// What the rank believes to be doing; all must say the same.
    fn tag(&self) -> String {
        let Collective { what, number, count, of, .. } = self;
        format!("collective {number}: {what:?} of {count} {of:?}")
    }

    /// Runs it.
    ///
    /// # Errors
    /// What keeps it from ending.
    pub fn run(&self, comm: &Comm, driver: &Driver) -> Result<(), Stop> {
        let group = comm.ready()?;
        let (ranks, rank) = (group.members.len(), group.rank);
        let bytes = self.count * self.size;
        let everybody = || 0..ranks;
        match self.what {
            What::AllGather => {
                let own = driver.read(self.source, bytes)?;
                let parts =
                    self.talk(comm, everybody().map(|to| (to, own.clone())), everybody())?;
                driver.write(self.target, &parts.concat())?;
            }
            What::AllReduce(reduction) => {
                let own = driver.read(self.source, bytes)?;
                let shares = everybody().map(|to| (to, own[self.share(to, ranks)].to_vec()));
                let parts = self.talk(comm, shares, everybody())?;
                let share = reduction.apply(self.of, &parts);
                let all =
                    self.talk(comm, everybody().map(|to| (to, share.clone())), everybody())?;
                driver.write(self.target, &all.concat())?;
            }
            What::Broadcast { root } => {
                let own = if rank == root { driver.read(self.source, bytes)? } else { Vec::new() };
                let to = everybody().filter(|_| rank == root).map(|to| (to, own.clone()));
                let parts = self.talk(comm, to, [root].into_iter())?;
                driver.write(self.target, &parts.concat())?;
            }
            What::Reduce { root, reduction } => {
                let own = driver.read(self.source, bytes)?;
                let from = everybody().filter(|_| rank == root);
                let parts = self.talk(comm, [(root, own)].into_iter(), from)?;
                if rank == root {
                    driver.write(self.target, &reduction.apply(self.of, &parts))?;
                }
            }
            What::ReduceScatter(reduction) => {
                let own = driver.read(self.source, bytes * ranks)?;
                let shares = own.chunks_exact(bytes.max(1)).map(<[u8]>::to_vec).enumerate();
                let parts = self.talk(comm, shares, everybody())?;
                driver.write(self.target, &reduction.apply(self.of, &parts))?;
            }
        }
        Ok(())
    }

    /// The bytes that a rank combines for all.
    fn share(&self, rank: usize, ranks: usize) -> std::ops::Range<usize> {
        let end = |rank: usize| self.count * rank / ranks * self.size;
        end(rank)..end(rank + 1)
    }

    fn talk(
        &self,
        comm: &Comm,
        to: impl Iterator<Item = (usize, Vec<u8>)>,
        from: impl Iterator<Item = usize>,
    ) -> Result<Vec<Vec<u8>>, Stop> {
        let tag = self.tag();
        let outgoing = to.map(|(to, body)| Outgoing { to, tag: tag.clone(), body }).collect();
        let incoming: Vec<_> = from.map(|from| Incoming { from, tag: tag.clone() }).collect();
        exchange(comm, Lane::Collective, outgoing, &incoming)
    }
}
