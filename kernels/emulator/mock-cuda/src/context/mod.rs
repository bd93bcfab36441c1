//! Contexts: one per device, shared by all who retain it.

mod current;
mod primary;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use cudarc::driver::sys::{CUcontext, CUresult, CUstream};
use slimpipe_mock_protocol::handles::Handles;

use crate::{
    fault::Fault,
    memory,
    settings::MOST_DEVICES,
    stream::{Body, Kind, Moment, Stream},
};

pub use current::{current, peek_current, pop_current, push_current, set_current};
pub use primary::{active, release, reset, retain};

/// Streams by handle, except the default ones, whose handles are small numbers.
pub static STREAMS: Handles<Stream> = Handles::new();

/// Contexts by handle.
pub static CONTEXTS: Handles<Context> = Handles::new();

/// A device's primary context.
pub struct Context {
    /// The device's ordinal.
    pub device: usize,
    handle: OnceLock<usize>,
    fault: Mutex<Option<Fault>>,
    failed: AtomicBool,
    destroyed: AtomicBool,
    streams: Mutex<Streams>,
    created: AtomicU64,
}

#[derive(Default)]
struct Streams {
    legacy: Option<Arc<Stream>>,
    per_thread: HashMap<ThreadId, Arc<Stream>>,
    created: Vec<Arc<Stream>>,
}

impl Streams {
    fn all(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.legacy.iter().chain(self.per_thread.values()).chain(&self.created)
    }
}

impl Context {
    fn new(device: usize) -> Arc<Context> {
        let context = Arc::new(Context {
            device,
            handle: OnceLock::new(),
            fault: Mutex::default(),
            failed: AtomicBool::new(false),
            destroyed: AtomicBool::new(false),
            streams: Mutex::default(),
            created: AtomicU64::new(0),
        });
        let handle: CUcontext = CONTEXTS.add(context.clone());
        context.handle.get_or_init(|| handle as usize);
        context
    }

    /// What callers call it.
    pub fn handle(&self) -> CUcontext {
        self.handle.get().copied().unwrap_or_default() as CUcontext
    }

    /// Why the context has failed, if it has.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Notes what went wrong first. What comes after is a consequence, and what happens to work that
    /// was left when the context was destroyed is nobody's concern.
    pub fn fail(&self, fault: Fault) {
        let mut first = self.fault.lock().unwrap_or_else(|e| e.into_inner());
        if first.is_none() && !self.is_destroyed() {
            let text = format!("device {}: {}", self.device, fault.text);
            eprintln!("mock CUDA driver: {text}");
            let mut told = FIRST_FAULT.lock().unwrap_or_else(|e| e.into_inner());
            if told.is_empty() {
                *told = text;
            }
            *first = Some(fault);
            self.failed.store(true, Ordering::Release);
        }
    }

    /// Forgets a fault, once what was on the streams has been dropped. A real context cannot.
    fn heal(&self) {
        if self.failed.load(Ordering::Acquire) {
            let end = Instant::now() + Duration::from_secs(2);
            let moments = self.streams().all().map(Stream::now).collect::<Vec<_>>();
            while Instant::now() < end && !moments.iter().all(Moment::query) {
                thread::sleep(Duration::from_millis(1));
            }
            *self.fault.lock().unwrap_or_else(|e| e.into_inner()) = None;
            self.failed.store(false, Ordering::Release);
        }
    }

    /// Whether operations still have an effect.
    pub fn is_alive(&self) -> bool {
        !self.failed.load(Ordering::Acquire) && !self.is_destroyed()
    }

    fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Acquire)
    }

    /// An error if the context has failed: such a context answers nothing else.
    ///
    /// # Errors
    /// The code of the fault.
    pub fn check(&self) -> Result<(), CUresult> {
        match self.failed.load(Ordering::Acquire) {
            true => self.fault().map_or(Ok(()), |fault| Err(fault.code)),
            false => Ok(()),
        }
    }

    /// Creates a stream.
    pub fn new_stream(self: &Arc<Self>, kind: Kind, priority: i32) -> Arc<Stream> {
        let ordinal = self.created.fetch_add(1, Ordering::Relaxed);
        Stream::new(Arc::downgrade(self), kind, priority, ordinal)
    }

    /// The stream of a handle: 0 and 1 are the default stream, 2 is the calling thread's own.
    ///
    /// # Errors
    /// A handle that is none, or one of another context.
    pub fn stream(self: &Arc<Self>, handle: CUstream) -> Result<Arc<Stream>, CUresult> {
        let mut streams = self.streams();
        match handle as usize {
            0 | 1 => {
                let new = || self.new_stream(Kind::Legacy, 0);
                Ok(streams.legacy.get_or_insert_with(new).clone())
            }
            2 => {
                let new = || self.new_stream(Kind::Blocking, 0);
                Ok(streams.per_thread.entry(thread::current().id()).or_insert_with(new).clone())
            }
            _ => STREAMS.get(handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE),
        }
    }

    /// Creates a stream and gives it a handle.
    pub fn open_stream(self: &Arc<Self>, kind: Kind, priority: i32) -> CUstream {
        let stream = self.new_stream(kind, priority);
        let mut streams = self.streams();
        streams.created.retain(|stream| !stream.is_over());
        streams.created.push(stream.clone());
        STREAMS.add(stream)
    }

    /// Puts an operation on a stream, in the order that the default stream's rules ask for.
    pub fn submit(
        &self,
        stream: &Arc<Stream>,
        name: impl Into<Cow<'static, str>>,
        mut after: Vec<Moment>,
        body: Body,
    ) -> Moment {
        // The lock makes two submissions that must wait for each other see each other.
        let streams = self.streams();
        match stream.kind {
            Kind::NonBlocking => drop(streams),
            Kind::Blocking => after.extend(streams.legacy.iter().map(Stream::now)),
            Kind::Legacy => {
                let blocking = streams.all().filter(|other| other.kind == Kind::Blocking);
                after.extend(blocking.map(Stream::now));
            }
        }
        stream.push(name.into(), after, body)
    }

    /// Waits on the host for everything in the context.
    ///
    /// # Errors
    /// The code of the fault, if the context fails or has failed.
    pub fn synchronise(&self) -> Result<(), CUresult> {
        let moments = self.streams().all().map(Stream::now).collect::<Vec<_>>();
        moments.iter().for_each(Moment::wait_on_host);
        self.check()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn destroy(&self) {
        self.destroyed.store(true, Ordering::Release);
        CONTEXTS.remove(self.handle());
        self.streams().all().for_each(|stream| stream.close());
        memory::device::free_all(self.device);
    }
}

/// What went wrong first since it was last forgotten, on any device.
static FIRST_FAULT: Mutex<String> = Mutex::new(String::new());

/// The first fault of any context since they were forgotten; contexts may have gone meanwhile.
pub fn first_fault() -> String {
    FIRST_FAULT.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// Forgets all faults.
pub fn forget_faults() {
    (0..MOST_DEVICES).filter_map(active).for_each(|context| context.heal());
    FIRST_FAULT.lock().unwrap_or_else(|e| e.into_inner()).clear();
}
