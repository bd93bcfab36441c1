//! Making communicators.

use std::{
    ffi::c_int,
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
    },
};

use cudarc::nccl::sys::{ncclComm_t, ncclConfig_t, ncclUniqueId};
use slimpipe_mock_protocol::door::driver;

use crate::{
    abi::{Answer, nccl_functions, put},
    bootstrap::{Member, Name, join, number_of},
    comm::{COMMS, Comm, Membership},
    exchange::{Incoming, Outgoing, Stop, exchange},
    failure::Failure,
    fault, group,
    message::Lane,
    settings,
};

/// What a configuration begins with if it was initialised.
const MAGIC: u32 = 0xCAFE_BEEF;

/// What is left to the library.
const UNDEFINED: c_int = c_int::MIN;

/// `NCCL_SPLIT_NOCOLOR`: the rank takes part in a split and gets no communicator.
const NO_COLOR: c_int = -1;

/// Whether calls wait, by a configuration. Callers built for an older NCCL have a shorter one, so only
/// its first fields are looked at.
///
/// # Safety
/// It must be null or good for reading as far as its `size` says.
unsafe fn blocking(config: *const ncclConfig_t) -> Result<bool, Failure> {
    if config.is_null() {
        return Ok(true);
    }
    // SAFETY: promised by the caller; every version begins with these fields.
    let (magic, blocking) =
        unsafe { ((&raw const (*config).magic).read(), (&raw const (*config).blocking).read()) };
    if magic != MAGIC {
        return Err(Failure::argument("a configuration that was not initialised"));
    }
    match blocking {
        1 | UNDEFINED => Ok(true),
        0 => Ok(false),
        other => Err(Failure::argument(format!("a configuration with blocking = {other}"))),
    }
}

/// Makes the communicator of a rank of a unique id.
///
/// # Safety
/// The places must be null or good for writing.
unsafe fn init(
    place: *mut ncclComm_t,
    ranks: c_int,
    id: &ncclUniqueId,
    rank: c_int,
    blocking: bool,
    device: usize,
) -> Answer {
    if ranks < 1 || !(0..ranks).contains(&rank) {
        return Err(Failure::argument(format!("rank {rank} of {ranks}")));
    }
    let member = Member { rank: rank as usize, ranks: ranks as usize, device };
    let name = Name::of_id(id)?;
    let comm = Comm::new(blocking, device);
    let handle: ncclComm_t = COMMS.add(comm.clone());
    // SAFETY: promised by the caller.
    unsafe { put(place, handle) }?;
    let worker = comm.clone();
    let work = move || {
        absent(&worker, member.rank)?;
        let world = join(&name, member, &|| !worker.is_aborted())?;
        let members = (0..member.ranks as u32).collect();
        let (world, number) = (Arc::new(world), name.number());
        worker.begin(Membership { world, members, rank: member.rank, number });
        Ok(())
    };
    let made = group::submit_making(group::Making { comm, work: Box::new(work) });
    // SAFETY: promised by the caller.
    unsafe { unmake(place, handle, made) }
}

/// A communicator that could not be made is none.
///
/// # Safety
/// The place must be good for writing.
unsafe fn unmake(place: *mut ncclComm_t, handle: ncclComm_t, made: Answer) -> Answer {
    if made.is_err() {
        COMMS.remove(handle);
        // SAFETY: promised by the caller.
        unsafe { place.write(std::ptr::null_mut()) };
    }
    made
}

/// Keeps a rank that shall never show up.
fn absent(comm: &Comm, rank: usize) -> Result<(), Failure> {
    let planted = settings::with(|s| s.fault.clone());
    if planted.is_some_and(|f| f.kind == fault::Kind::Absent && f.rank == rank) {
        comm.wait_for_abort();
        return Err(Failure::system(format!("rank {rank} stays away, as planted")));
    }
    Ok(())
}

/// Finds out with all members of `parent` who has which color, and joins those of the own one.
fn split(parent: &Comm, child: &Comm, color: c_int, key: c_int) -> Result<(), Stop> {
    let group = parent.ready()?;
    let number = parent.splits.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    let tag = format!("split {number}");
    let own = [color.to_le_bytes(), key.to_le_bytes()].concat();
    let everybody = 0..group.members.len();
    let outgoing = everybody.clone().map(|to| Outgoing { to, tag: tag.clone(), body: own.clone() });
    let incoming: Vec<_> = everybody.map(|from| Incoming { from, tag: tag.clone() }).collect();
    let answers = exchange(parent, Lane::Split, outgoing.collect(), &incoming)?;
    if color == NO_COLOR {
        return Ok(());
    }
    let number_at = |body: &[u8], at: usize| {
        c_int::from_le_bytes(body[at..at + 4].try_into().unwrap_or_default())
    };
    let mut same: Vec<_> = answers
        .iter()
        .enumerate()
        .filter(|(_, body)| number_at(body, 0) == color)
        .map(|(rank, body)| (number_at(body, 4), rank))
        .collect();
    same.sort_unstable();
    let rank = same.iter().position(|(_, rank)| *rank == group.rank).unwrap_or_default();
    let name = format!("{} {number} {color}", group.number);
    child.begin(Membership {
        world: group.world.clone(),
        members: same.iter().map(|(_, rank)| group.members[*rank]).collect(),
        rank,
        number: number_of(name.as_bytes()),
    });
    Ok(())
}

/// The handle that a split writes when it has ended, on a thread of its own: the caller may have gone on.
struct Promise {
    place: *mut ncclComm_t,
    handle: ncclComm_t,
}

// SAFETY: the place is written once, by whoever keeps the promise.
unsafe impl Send for Promise {}

impl Promise {
    fn keep(self) {
        // SAFETY: a caller of a split vouches for the place until the handle is there.
        unsafe { AtomicPtr::from_ptr(self.place) }.store(self.handle, Ordering::Release);
    }
}

nccl_functions! {
    fn ncclGetUniqueId(id: *mut ncclUniqueId) {
        put(id, Name::make()?.to_id())
    }

    fn ncclCommInitRank(comm: *mut ncclComm_t, ranks: c_int, id: ncclUniqueId, rank: c_int) {
        init(comm, ranks, &id, rank, true, driver()?.device()?)
    }

    fn ncclCommInitRankConfig(
        comm: *mut ncclComm_t,
        ranks: c_int,
        id: ncclUniqueId,
        rank: c_int,
        config: *mut ncclConfig_t,
    ) {
        init(comm, ranks, &id, rank, blocking(config)?, driver()?.device()?)
    }

    fn ncclCommInitAll(comms: *mut ncclComm_t, number: c_int, devices: *const c_int) {
        let id = Name::make()?.to_id();
        group::start();
        let all = (0..number).try_for_each(|rank| {
            let at = rank as usize;
            let device = if devices.is_null() { rank } else { *devices.add(at) };
            init(comms.add(at), number, &id, rank, true, device as usize).map(|_| ())
        });
        let ended = group::end();
        all.and(ended)
    }

    fn ncclCommSplit(
        comm: ncclComm_t,
        color: c_int,
        key: c_int,
        place: *mut ncclComm_t,
        config: *mut ncclConfig_t,
    ) {
        let parent = Comm::find(comm)?;
        parent.ready()?;
        if color < NO_COLOR {
            return Err(Failure::argument(format!("the color {color}")));
        }
        let blocking = if config.is_null() { parent.blocking } else { blocking(config)? };
        let child = Comm::new(blocking, parent.device);
        let handle: ncclComm_t = match color {
            NO_COLOR => std::ptr::null_mut(),
            _ => COMMS.add(child.clone()),
        };
        put(place, std::ptr::null_mut())?;
        let promise = Promise { place, handle };
        let (worker, busy) = (child.clone(), parent.call());
        let work = move || {
            let done = split(&parent, &worker, color, key);
            promise.keep();
            drop(busy);
            done.map_err(|stop| match stop {
                Stop::Failed(failure) => failure,
                Stop::Aborted => Failure::system("the communicator was aborted"),
            })
        };
        let making = group::Making { comm: child, work: Box::new(work) };
        let made = group::submit_making(making);
        if handle.is_null() { made } else { unmake(place, handle, made) }
    }
}
