//! Events: a moment of a stream that others can wait for.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Instant,
};

use cudarc::driver::sys::CUresult;

use crate::{
    context::Context,
    stream::{Moment, Stream},
};

/// A moment that was recorded, and when it came.
#[derive(Clone)]
struct Record {
    moment: Moment,
    at: Arc<OnceLock<Instant>>,
}

/// An event. Before it is recorded it counts as past.
pub struct Event {
    /// The context it was created in.
    pub context: Arc<Context>,
    /// Whether it keeps the time.
    pub timed: bool,
    last: Mutex<Option<Record>>,
}

impl Event {
    /// An event that was not recorded yet.
    pub fn new(context: Arc<Context>, timed: bool) -> Event {
        Event { context, timed, last: Mutex::default() }
    }

    /// Records what is on `stream` now; an earlier record is forgotten.
    pub fn record(&self, stream: &Arc<Stream>) {
        let at = Arc::new(OnceLock::new());
        let stamp = at.clone();
        let body = move |_| {
            let _ = stamp.set(Instant::now());
            Ok(())
        };
        let moment = self.context.submit(stream, "record", Vec::new(), Box::new(body));
        *self.last.lock().unwrap_or_else(|e| e.into_inner()) = Some(Record { moment, at });
    }

    /// The moment of the last record.
    pub fn moment(&self) -> Option<Moment> {
        self.last().map(|record| record.moment)
    }

    /// Milliseconds from this event to a later one.
    ///
    /// # Errors
    /// Events that keep no time or were not recorded, or have not come yet.
    pub fn elapsed(&self, end: &Event) -> Result<f32, CUresult> {
        let (Some(start), Some(end), true) = (self.last(), end.last(), self.timed && end.timed)
        else {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        };
        match (start.at.get(), end.at.get()) {
            (Some(start), Some(end)) if end >= start => {
                Ok(end.duration_since(*start).as_secs_f32() * 1e3)
            }
            (Some(start), Some(end)) => Ok(start.duration_since(*end).as_secs_f32() * -1e3),
            _ => Err(CUresult::CUDA_ERROR_NOT_READY),
        }
    }

    fn last(&self) -> Option<Record> {
        self.last.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}
