//! Operations of a communicator, as they run on a stream.

use std::process;

use cudarc::nccl::sys::{ncclDataType_t, ncclResult_t};
use slimpipe_mock_protocol::door::Driver;

use crate::{
    collective::Collective,
    comm::Comm,
    exchange::{Incoming, Outgoing, Stop, exchange},
    failure::Failure,
    fault::Kind,
    message::Lane,
    settings,
};

/// A send or a receive.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The other rank.
    pub peer: usize,
    /// Where the elements are, or go.
    pub address: u64,
    /// How many.
    pub count: usize,
    /// Their type.
    pub of: ncclDataType_t,
    /// Bytes of an element.
    pub size: usize,
}

impl Pair {
    /// What the rank believes to be doing.
    fn tag(&self) -> String {
        format!("{} {:?}", self.count, self.of)
    }
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Elements for another rank.
    Send(Pair),
    /// Elements from another rank.
    Receive(Pair),
    /// Something that all ranks do.
    Collective(Collective),
}

/// Runs the operations of a group on the thread of its stream: sends and receives side by side, then
/// collectives in order. What fails ends when the communicator is aborted.
pub fn run(comm: &Comm, operations: &[Operation], driver: &Driver) {
    match try_run(comm, operations, driver) {
        Ok(()) | Err(Stop::Aborted) => {}
        Err(Stop::Failed(failure)) => {
            comm.fail(failure);
            comm.wait_for_abort();
        }
    }
}

fn try_run(comm: &Comm, operations: &[Operation], driver: &Driver) -> Result<(), Stop> {
    for _ in operations {
        planted(comm)?;
    }
    let (mut outgoing, mut incoming, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for operation in operations {
        match operation {
            Operation::Send(pair) => {
                let body = driver.read(pair.address, pair.count * pair.size)?;
                outgoing.push(Outgoing { to: pair.peer, tag: pair.tag(), body });
            }
            Operation::Receive(pair) => {
                incoming.push(Incoming { from: pair.peer, tag: pair.tag() });
                places.push(pair.address);
            }
            Operation::Collective(_) => {}
        }
    }
    let received = exchange(comm, Lane::Pair, outgoing, &incoming)?;
    for (place, body) in places.iter().zip(&received) {
        driver.write(*place, body)?;
    }
    for operation in operations {
        if let Operation::Collective(collective) = operation {
            collective.run(comm, driver)?;
        }
    }
    Ok(())
}

/// Does to this operation what the test planted.
fn planted(comm: &Comm) -> Result<(), Stop> {
    let group = comm.ready()?;
    let rank = group.world.rank as usize;
    let failed = |code, text: String| Err(Stop::Failed(Failure { code, text }));
    match settings::strike(rank) {
        None | Some(Kind::Absent) => Ok(()),
        Some(Kind::Exit) => process::exit(13),
        Some(Kind::Hang) => {
            comm.wait_for_abort();
            Err(Stop::Aborted)
        }
        Some(Kind::Die) => {
            group.world.die();
            failed(ncclResult_t::ncclInternalError, format!("rank {rank} dies, as planted"))
        }
        Some(Kind::Error) => {
            failed(ncclResult_t::ncclSystemError, format!("an error of rank {rank}, as planted"))
        }
    }
}
