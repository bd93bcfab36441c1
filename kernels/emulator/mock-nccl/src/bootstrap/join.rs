//! A rank joins the others.

use std::{
    collections::HashMap,
    env, io,
    os::unix::net::{SocketAddr, UnixListener, UnixStream},
    process,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Name, line, root};
use crate::{failure::Failure, link::Link, mailbox::Mailbox, settings, world::World};

/// What is known of a rank before it joins.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The rank.
    pub rank: usize,
    /// How many ranks there are.
    pub ranks: usize,
    /// The device that it works on.
    pub device: usize,
}

/// Ranks of this process that are joining under one name.
#[derive(Default)]
struct Here {
    mailboxes: HashMap<usize, Arc<Mailbox>>,
    /// How many of them have found all others.
    connected: usize,
}

static HERE: LazyLock<Mutex<HashMap<String, Here>>> = LazyLock::new(Mutex::default);

fn here() -> MutexGuard<'static, HashMap<String, Here>> {
    HERE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Notes that a rank has found all others; the last of this process tidies up.
fn connected(name: &Name, ranks_here: usize) {
    let mut here = here();
    if let Some(joining) = here.get_mut(&name.0) {
        joining.connected += 1;
        if joining.connected == ranks_here {
            here.remove(&name.0);
        }
    }
}

/// A rank as its line to the root describes it: rank, ranks, process, place, device, host.
struct Peer {
    process: u32,
    /// Tells where it listens from where other ranks of its process do.
    place: u64,
    device: usize,
    host: String,
}

impl Peer {
    fn read(line: &str) -> Option<Peer> {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let &[_, _, process, place, device, host] = words.as_slice() else { return None };
        let place = place.parse().ok()?;
        Some(Peer {
            process: process.parse().ok()?,
            place,
            device: device.parse().ok()?,
            host: host.into(),
        })
    }
}

/// Joins all ranks of a name. Waits for them as long as `wanted` says so.
///
/// # Errors
/// Ranks that contradict each other, two on one device, or what is not wanted any more.
pub fn join(name: &Name, member: Member, wanted: &dyn Fn() -> bool) -> Result<World, Failure> {
    let Member { rank, ranks, device } = member;
    if name.is_shared() && rank == 0 {
        root::start(name)?;
    }
    let mailbox = Arc::new(Mailbox::default());
    here().entry(name.0.clone()).or_default().mailboxes.insert(rank, mailbox.clone());
    static PLACES: AtomicU64 = AtomicU64::new(0);
    let place = PLACES.fetch_add(1, Ordering::Relaxed);
    let listener = listen(name, rank, place)?;
    let host = env::var("NCCL_HOSTID").unwrap_or_else(|_| "localhost".into());
    let own = format!("{rank} {ranks} {} {place} {device} {host}", process::id());
    let peers = ask_root(name, &own, ranks, wanted)?;
    refuse_shared_devices(&peers)?;
    let links = connect(name, rank, &peers, &mailbox, &listener, wanted)?;
    connected(name, peers.iter().filter(|peer| peer.process == process::id()).count());
    Ok(World::new(rank as u32, mailbox, links))
}

fn listen(name: &Name, rank: usize, place: u64) -> Result<UnixListener, Failure> {
    let refused = |e: io::Error| Failure::system(format!("rank {rank} cannot listen: {e}"));
    let address = address_of(name, process::id(), place)?;
    let listener = UnixListener::bind_addr(&address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

fn address_of(name: &Name, process: u32, place: u64) -> Result<SocketAddr, Failure> {
    name.address(&format!("process {process} place {place}"))
}

fn given_up(what: &str) -> Failure {
    Failure::system(format!("{what} was given up"))
}

/// Tries until it succeeds or nobody wants it any more.
fn retry<T>(
    what: &str,
    wanted: &dyn Fn() -> bool,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Result<T, Failure> {
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(_) if wanted() => thread::sleep(Duration::from_millis(2)),
            Err(_) => return Err(given_up(what)),
        }
    }
}

/// Tells the root of this rank and waits for what it says of all.
fn ask_root(
    name: &Name,
    own: &str,
    ranks: usize,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Peer>, Failure> {
    let address = name.address("root")?;
    let what = "waiting for all ranks";
    let mut root = retry(what, wanted, || UnixStream::connect_addr(&address))?;
    let broken = |e: io::Error| match e.kind() {
        io::ErrorKind::Interrupted => given_up(what),
        _ => Failure::system(format!("the bootstrap broke down: {e}")),
    };
    line::write(&mut root, own).map_err(broken)?;
    let verdict = line::read(&mut root, wanted).map_err(broken)?;
    if let Some(refusal) = verdict.strip_prefix("refused ") {
        return Err(Failure::usage(refusal));
    }
    let mut peers = Vec::with_capacity(ranks);
    for _ in 0..ranks {
        let line = line::read(&mut root, wanted).map_err(broken)?;
        let wrong = || Failure::system(format!("the bootstrap said {line:?}"));
        peers.push(Peer::read(&line).ok_or_else(wrong)?);
    }
    Ok(peers)
}

fn refuse_shared_devices(peers: &[Peer]) -> Result<(), Failure> {
    if settings::with(|s| s.share_devices) {
        return Ok(());
    }
    for (rank, peer) in peers.iter().enumerate() {
        let same = |other: &Peer| (&other.host, other.device) == (&peer.host, peer.device);
        if let Some(first) = peers[..rank].iter().position(same) {
            let Peer { device, host, .. } = peer;
            return Err(Failure::usage(format!(
                "ranks {first} and {rank} use the same GPU, {device} of {host}; \
                 NCCL_MULTI_RANK_GPU_ENABLE=1 allows it"
            )));
        }
    }
    Ok(())
}

/// Ways to all ranks: of two ranks in different processes, the higher one connects to the lower.
fn connect(
    name: &Name,
    rank: usize,
    peers: &[Peer],
    mailbox: &Arc<Mailbox>,
    listener: &UnixListener,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<Link>, Failure> {
    let broken = |e: io::Error| Failure::system(format!("a connection of rank {rank} broke: {e}"));
    let mut links: Vec<Option<Link>> = Vec::new();
    for (other, peer) in peers.iter().enumerate() {
        links.push(if peer.process == process::id() {
            let found = here().get(&name.0).and_then(|here| here.mailboxes.get(&other).cloned());
            let missing = || Failure::remote(format!("rank {other} of this process has gone"));
            Some(Link::Local(found.ok_or_else(missing)?))
        } else if other < rank {
            let address = address_of(name, peer.process, peer.place)?;
            let what = format!("connecting to rank {other}");
            let mut connection = retry(&what, wanted, || UnixStream::connect_addr(&address))?;
            line::write(&mut connection, &rank.to_string()).map_err(broken)?;
            Some(Link::remote(connection, other as u32, mailbox.clone()).map_err(broken)?)
        } else {
            None
        });
    }
    while links.iter().any(Option::is_none) {
        let what = "waiting for other ranks to connect";
        let (mut connection, _) = retry(what, wanted, || listener.accept())?;
        connection.set_nonblocking(false).map_err(broken)?;
        let other: usize = line::read(&mut connection, wanted)
            .map_err(broken)?
            .parse()
            .map_err(|_| Failure::system("a stranger connected"))?;
        let place = links.get_mut(other).ok_or_else(|| Failure::system("a stranger connected"))?;
        *place = Some(Link::remote(connection, other as u32, mailbox.clone()).map_err(broken)?);
    }
    Ok(links.into_iter().flatten().collect())
}
