//! Streams.

use std::{
    ffi::{c_int, c_uint, c_ulonglong, c_void},
    sync::Arc,
};

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUevent, CUhostFn, CUresult, CUstream, CUstreamCaptureStatus,
};

use super::event;
use crate::{
    abi::{Answer, as_host_function, driver_functions, put},
    context::{self, Context, STREAMS},
    counters::{Count, count},
    facts,
    stream::{Kind, Stream},
};

/// The stream of a handle and its context, fit for work.
///
/// # Errors
/// No context, one that has failed, a handle that is none.
pub fn find(handle: CUstream) -> Result<(Arc<Context>, Arc<Stream>), CUresult> {
    let current = context::current()?;
    let stream = current.stream(handle)?;
    let context = stream.context().ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
    context.check()?;
    Ok((context, stream))
}

fn create(handle: *mut CUstream, flags: c_uint, priority: c_int) -> Answer {
    let kind = match flags {
        0 => Kind::Blocking,
        1 => Kind::NonBlocking,
        _ => return Err(CUresult::CUDA_ERROR_INVALID_VALUE),
    };
    let (lowest, highest) = facts::PRIORITIES;
    let stream = context::current()?.open_stream(kind, priority.clamp(highest, lowest));
    // SAFETY: a caller of the driver vouches for the pointers that it passes.
    unsafe { put(handle, stream) }
}

driver_functions! {
    fn cuStreamCreate(handle: *mut CUstream, flags: c_uint) {
        create(handle, flags, 0)
    }

    fn cuStreamCreateWithPriority(handle: *mut CUstream, flags: c_uint, priority: c_int) {
        create(handle, flags, priority)
    }

    /// Does not wait: what is on the stream still runs.
    fn cuStreamDestroy_v2(handle: CUstream) {
        STREAMS.remove(handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?.close();
        Ok(())
    }

    fn cuStreamSynchronize(handle: CUstream) {
        count(Count::StreamSynchronisation);
        let (context, stream) = find(handle)?;
        stream.now().wait_on_host();
        context.check()
    }

    fn cuStreamQuery(handle: CUstream) {
        let (_, stream) = find(handle)?;
        if stream.now().query() { Ok(()) } else { Err(CUresult::CUDA_ERROR_NOT_READY) }
    }

    fn cuStreamWaitEvent(handle: CUstream, event: CUevent, _flags: c_uint) {
        count(Count::EventWait);
        let (context, stream) = find(handle)?;
        if let Some(moment) = event::find(event)?.moment() {
            context.submit(&stream, "wait", vec![moment], Box::new(|_| Ok(())));
        }
        Ok(())
    }

    fn cuLaunchHostFunc(handle: CUstream, function: CUhostFn, data: *mut c_void) {
        let (context, stream) = find(handle)?;
        let function = function.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        count(Count::HostFunction);
        let data = data as usize;
        // As the driver does, a context that has failed does not call it.
        let body = move |alive| {
            if alive {
                // SAFETY: the caller vouches for the function and its data.
                as_host_function(|| unsafe { function(data as *mut c_void) });
            }
            Ok(())
        };
        context.submit(&stream, "host_function", Vec::new(), Box::new(body));
        Ok(())
    }

    fn cuStreamGetFlags(handle: CUstream, flags: *mut c_uint) {
        let (_, stream) = find(handle)?;
        put(flags, c_uint::from(stream.kind == Kind::NonBlocking))
    }

    fn cuStreamGetPriority(handle: CUstream, priority: *mut c_int) {
        put(priority, find(handle)?.1.priority)
    }

    fn cuStreamGetCtx(handle: CUstream, context: *mut CUcontext) {
        put(context, find(handle)?.0.handle())
    }

    fn cuStreamGetDevice(handle: CUstream, device: *mut CUdevice) {
        put(device, find(handle)?.0.device as CUdevice)
    }

    fn cuStreamGetId(handle: CUstream, id: *mut c_ulonglong) {
        put(id, Arc::as_ptr(&find(handle)?.1) as c_ulonglong)
    }

    fn cuStreamIsCapturing(handle: CUstream, status: *mut CUstreamCaptureStatus) {
        find(handle)?;
        put(status, CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
    }
}
