//! Events.

use std::{ffi::c_uint, sync::Arc};

use cudarc::driver::sys::{CUevent, CUresult, CUstream};
use slimpipe_mock_protocol::handles::Handles;

use super::stream;
use crate::{
    abi::{Answer, answer, driver_functions, put},
    context,
    counters::{Count, count},
    event::Event,
    stream::Moment,
};

/// Events by handle.
static EVENTS: Handles<Event> = Handles::new();

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;

/// The event of a handle.
///
/// # Errors
/// A handle that is none.
pub fn find(handle: CUevent) -> Result<Arc<Event>, CUresult> {
    EVENTS.get(handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

fn record(event: CUevent, stream: CUstream) -> Answer {
    let event = find(event)?;
    let (context, stream) = stream::find(stream)?;
    if !Arc::ptr_eq(&context, &event.context) {
        return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    count(Count::EventRecord);
    event.record(&stream);
    Ok(())
}

driver_functions! {
    fn cuEventCreate(handle: *mut CUevent, flags: c_uint) {
        let event = Event::new(context::current()?, flags & DISABLE_TIMING == 0);
        put(handle, EVENTS.add(Arc::new(event)))
    }

    fn cuEventDestroy_v2(handle: CUevent) {
        EVENTS.remove(handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        Ok(())
    }

    fn cuEventRecord(event: CUevent, stream: CUstream) {
        record(event, stream)
    }

    fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, _flags: c_uint) {
        record(event, stream)
    }

    fn cuEventQuery(handle: CUevent) {
        let event = find(handle)?;
        event.context.check()?;
        let past = event.moment().is_none_or(|moment| moment.query());
        if past { Ok(()) } else { Err(CUresult::CUDA_ERROR_NOT_READY) }
    }

    fn cuEventSynchronize(handle: CUevent) {
        count(Count::EventSynchronisation);
        let event = find(handle)?;
        event.moment().as_ref().map(Moment::wait_on_host);
        event.context.check()
    }

    fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: CUevent, end: CUevent) {
        elapsed(milliseconds, start, end)
    }
}

/// # Safety
/// The place must be null or good for writing.
unsafe fn elapsed(milliseconds: *mut f32, start: CUevent, end: CUevent) -> Answer {
    let (start, end) = (find(start)?, find(end)?);
    start.context.check()?;
    // SAFETY: promised by the caller.
    unsafe { put(milliseconds, start.elapsed(&end)?) }
}

/// The same under the name it had before CUDA 13, which cudarc's bindings of 13.0 do not declare.
///
/// # Safety
/// As for every function of the driver: the pointer must be good.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    // SAFETY: promised by the caller.
    answer("cuEventElapsedTime", || unsafe { elapsed(milliseconds, start, end) })
}
