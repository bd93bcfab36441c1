//! Calls that are put together between `ncclGroupStart` and `ncclGroupEnd`.

use std::{cell::RefCell, ffi::CString, sync::Arc, thread, time::Duration};

use slimpipe_mock_protocol::door::{Context, driver};

use crate::{
    abi::{Answer, BEGUN, DONE},
    comm::{Busy, Comm},
    failure::Failure,
    operation::{self, Operation},
    settings,
};

/// Work that makes a communicator.
pub struct Making {
    /// The communicator whose caller waits, or asks until it is done.
    pub comm: Arc<Comm>,
    /// What is to be done.
    pub work: Box<dyn FnOnce() -> Result<(), Failure> + Send>,
}

/// An operation on its way to a stream.
pub struct Call {
    /// The communicator.
    pub comm: Arc<Comm>,
    /// The stream's handle.
    pub stream: usize,
    /// The function's name.
    pub name: &'static str,
    /// What it does; nothing, if there are no elements.
    pub operation: Option<Operation>,
}

#[derive(Default)]
struct Open {
    depth: usize,
    makings: Vec<Making>,
    calls: Vec<Call>,
    failure: Option<Failure>,
}

/// How late a call is that is put off.
const DEFERRED: Duration = Duration::from_micros(500);

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

/// Opens a group on this thread, or one more level of the one that is open.
pub fn start() {
    OPEN.with_borrow_mut(|open| open.depth += 1);
}

/// Closes a level; with the last one everything begins.
///
/// # Errors
/// No group is open, a call in it was wrong, or what began failed at once.
pub fn end() -> Answer {
    let Open { depth, makings, calls, failure } = OPEN.with_borrow_mut(|open| match open.depth {
        0 | 1 => std::mem::take(open),
        _ => {
            open.depth -= 1;
            Open { depth: open.depth + 1, ..Open::default() }
        }
    });
    match (depth, failure) {
        (0, _) => Err(Failure::usage("no group is open")),
        (_, Some(failure)) => Err(failure),
        _ => {
            let made = make(makings)?;
            let called = launch(calls)?;
            if made == called { Ok(made) } else { BEGUN }
        }
    }
}

/// Does the work now, or at the end of the group that is open.
///
/// # Errors
/// What the work fails with, if it is waited for.
pub fn submit_making(making: Making) -> Answer {
    let mut making = Some(making);
    let put_off = OPEN.with_borrow_mut(|open| {
        (open.depth > 0).then(|| open.makings.extend(making.take())).is_some()
    });
    if put_off { DONE } else { make(making.into_iter().collect()) }
}

/// Puts an operation on its stream now, or at the end of the group that is open.
///
/// # Errors
/// What makes it impossible.
pub fn submit_call(call: Result<Call, Failure>) -> Answer {
    let mut call = Some(call);
    let put_off = OPEN.with_borrow_mut(|open| {
        if open.depth == 0 {
            return false;
        }
        match call.take() {
            Some(Ok(call)) => open.calls.push(call),
            Some(Err(failure)) => _ = open.failure.get_or_insert(failure),
            None => {}
        }
        true
    });
    match call {
        Some(call) if !put_off => launch(vec![call?]),
        _ => DONE,
    }
}

/// Does work side by side; waits for that of communicators that block.
fn make(makings: Vec<Making>) -> Answer {
    let mut waited = Vec::new();
    let mut begun = false;
    for Making { comm, work } in makings {
        let blocking = comm.blocking;
        let busy = comm.call();
        let run = move || {
            let done = work();
            if let Err(failure) = &done
                && !comm.is_aborted()
            {
                comm.fail(failure.clone());
            }
            drop(busy);
            done
        };
        let worker = thread::spawn(run);
        if blocking { waited.push(worker) } else { begun = true }
    }
    for worker in waited {
        worker.join().map_err(|_| Failure::system("the mock failed inside"))??;
    }
    if begun { BEGUN } else { DONE }
}

/// Puts the operations of each communicator on its stream as one.
fn launch(calls: Vec<Call>) -> Answer {
    let mut groups: Vec<Vec<Call>> = Vec::new();
    for call in calls {
        match groups.iter_mut().find(|group| Arc::ptr_eq(&group[0].comm, &call.comm)) {
            Some(group) if group[0].stream != call.stream => {
                let text = "one communicator's operations of a group on several streams";
                return Err(Failure::usage(format!("{text}: not imitated")));
            }
            Some(group) => group.push(call),
            None => groups.push(vec![call]),
        }
    }
    let mut begun = false;
    for group in groups {
        let comm = group[0].comm.clone();
        if comm.blocking || !settings::with(|s| s.deferred) {
            enqueue(group)?;
            continue;
        }
        begun = true;
        let busy = comm.call();
        let context = driver()?.context();
        thread::spawn(move || enqueue_later(group, busy, context));
    }
    if begun { BEGUN } else { DONE }
}

fn enqueue_later(group: Vec<Call>, busy: Busy, context: Context) {
    thread::sleep(DEFERRED);
    let comm = group[0].comm.clone();
    if let Err(failure) = driver()
        .map(|driver| driver.enter(context))
        .map_err(Failure::from)
        .and_then(|()| enqueue(group))
    {
        comm.fail(failure);
    }
    drop(busy);
}

/// Puts a communicator's operations on their stream.
fn enqueue(group: Vec<Call>) -> Result<(), Failure> {
    let Call { comm, stream, name, .. } = &group[0];
    let name = if group.len() == 1 { name } else { "ncclGroup" };
    let name = CString::new(name).unwrap_or_default();
    let (comm, stream, driver) = (comm.clone(), *stream, driver()?);
    let operations: Vec<Operation> = group.iter().filter_map(|call| call.operation).collect();
    let busy = comm.operation();
    let run = move |alive| {
        if alive {
            operation::run(&comm, &operations, driver);
        }
        drop(busy);
    };
    Ok(driver.enqueue(stream, &name, run)?)
}
