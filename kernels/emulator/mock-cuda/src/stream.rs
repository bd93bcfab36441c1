//! A stream is a queue with a thread that runs its operations one after another.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, Weak},
    thread,
    time::{Duration, Instant},
};

use slimpipe_mock_protocol::{guard::guarded, order::Order, random::Random};

use crate::{context::Context, fault::Fault, hang, settings};

/// How a stream is ordered against the legacy default stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The default stream itself: waits for all blocking streams and they for it.
    Legacy,
    /// Created without flags, or a thread's own default stream.
    Blocking,
    /// Created with `CU_STREAM_NON_BLOCKING`.
    NonBlocking,
}

/// What an operation does. The argument is false if its context has failed or gone: then nothing
/// may be touched, the operation is only to be dropped.
pub type Body = Box<dyn FnOnce(bool) -> Result<(), Fault> + Send>;

struct Operation {
    name: Cow<'static, str>,
    after: Vec<Moment>,
    body: Body,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Operation>,
    /// Operations put on the stream so far.
    submitted: u64,
    /// Operations done so far.
    completed: u64,
    /// Somebody waits for the operations up to this one.
    demanded: u64,
    started: bool,
    closed: bool,
}

/// A queue of operations and the thread that runs them.
pub struct Stream {
    /// How it is ordered against the default stream.
    pub kind: Kind,
    /// The priority it was created with. Threads are not scheduled by it.
    pub priority: i32,
    context: Weak<Context>,
    /// Numbers the streams of a context; seeds the delays.
    ordinal: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// The end of an operation on a stream.
#[derive(Clone)]
pub struct Moment {
    stream: Arc<Stream>,
    ticket: u64,
}

impl Stream {
    /// A stream of `context` with nothing on it.
    pub fn new(context: Weak<Context>, kind: Kind, priority: i32, ordinal: u64) -> Arc<Stream> {
        let (state, changed) = Default::default();
        Arc::new(Stream { kind, priority, context, ordinal, state, changed })
    }

    /// The context it belongs to, while that exists.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.context.upgrade()
    }

    /// The end of what is on the stream now.
    pub fn now(self: &Arc<Self>) -> Moment {
        Moment { stream: self.clone(), ticket: self.lock().submitted }
    }

    /// Puts an operation behind those that are there, to run after `after` as well.
    /// [`Context::submit`] adds what the default stream's rules ask for.
    pub(crate) fn push(
        self: &Arc<Self>,
        name: Cow<'static, str>,
        after: Vec<Moment>,
        body: Body,
    ) -> Moment {
        let mut state = self.lock();
        state.queue.push_back(Operation { name, after, body });
        state.submitted += 1;
        let ticket = state.submitted;
        if !state.started
            && let Some(context) = self.context()
        {
            state.started = true;
            let stream = self.clone();
            thread::spawn(move || stream.work(&context));
        }
        self.changed.notify_all();
        Moment { stream: self.clone(), ticket }
    }

    /// No more operations will come. Those that are there still run.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether the stream was closed and is done.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.closed && state.completed == state.submitted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn work(self: Arc<Self>, context: &Arc<Context>) {
        let mut random = None;
        while let Some((operation, ticket)) = self.next() {
            operation.after.iter().for_each(Moment::wait);
            self.delay(ticket, &mut random);
            if settings::strikes(|s| &mut s.hang, &operation.name) {
                hang::until_released();
            }
            match guarded(|| (operation.body)(context.is_alive())) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => context.fail(fault),
                Err(panic) => context.fail(Fault::launch_failed(format!(
                    "the mock failed inside {}: {panic}",
                    operation.name
                ))),
            }
            self.lock().completed = ticket;
            self.changed.notify_all();
        }
    }

    /// Waits for the next operation; none if the stream is closed and empty.
    fn next(&self) -> Option<(Operation, u64)> {
        let mut state = self.lock();
        loop {
            if let Some(operation) = state.queue.pop_front() {
                return Some((operation, state.completed + 1));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Puts an operation off as the order in force wants it.
    fn delay(&self, ticket: u64, random: &mut Option<(Order, Random)>) {
        let order = settings::with(|s| s.order);
        match order {
            Order::Eager => {}
            Order::Random { seed, most } => {
                if !matches!(random, Some((of, _)) if *of == order) {
                    *random = Some((order, Random::new(seed ^ self.ordinal << 32)));
                }
                let Some((_, random)) = random else { return };
                if random.below(2) == 1 {
                    thread::sleep(Duration::from_nanos(random.below(most.as_nanos() as u64)));
                }
            }
            Order::Late { grace } => {
                let end = Instant::now() + grace;
                let mut state = self.lock();
                while state.demanded < ticket && !state.closed {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(|e| e.into_inner()).0;
                }
            }
        }
    }
}

impl Moment {
    /// Whether the operation is done. To ask is to wait for it, in the sense of [`Order::Late`].
    pub fn query(&self) -> bool {
        let mut state = self.stream.lock();
        self.demand(&mut state);
        state.completed >= self.ticket
    }

    /// Waits for the end of the operation.
    pub fn wait(&self) {
        let mut state = self.stream.lock();
        self.demand(&mut state);
        while state.completed < self.ticket {
            state = self.stream.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Waits for the end of the operation, or of its context: a failed context lets go of the host
    /// even if an operation of its own never ends.
    pub fn wait_on_host(&self) {
        let mut state = self.stream.lock();
        self.demand(&mut state);
        while state.completed < self.ticket {
            if self.stream.context().is_none_or(|context| !context.is_alive()) {
                return;
            }
            let patience = Duration::from_millis(10);
            let waited = self.stream.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    fn demand(&self, state: &mut State) {
        if state.demanded < self.ticket {
            state.demanded = self.ticket;
            self.stream.changed.notify_all();
        }
    }
}
