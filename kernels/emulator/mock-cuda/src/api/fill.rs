//! Fills.

use std::ffi::{c_uchar, c_uint, c_ushort};

use cudarc::driver::sys::{CUdeviceptr, CUresult, CUstream};

use super::stream;
use crate::{
    abi::{Answer, driver_functions},
    counters::{Count, count},
    memory::{space, transfer, virtual_range::is_reserved},
};

/// The stream that calls without a stream work on.
const DEFAULT: CUstream = std::ptr::null_mut();

/// Puts a fill with `number` copies of a pattern on a stream.
fn fill<const N: usize>(
    target: CUdeviceptr,
    pattern: [u8; N],
    number: usize,
    stream: CUstream,
) -> Answer {
    let (context, stream) = stream::find(stream)?;
    let known = space::find(target).is_some() || is_reserved(target);
    let bytes = number.checked_mul(N).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
    if !target.is_multiple_of(N as u64) || (bytes > 0 && !known) {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    if bytes == 0 {
        return Ok(());
    }
    count(Count::Fill);
    let body = move |alive| {
        if alive { transfer::fill(target, &pattern, bytes) } else { Ok(()) }
    };
    context.submit(&stream, "fill", Vec::new(), Box::new(body));
    Ok(())
}

driver_functions! {
    fn cuMemsetD8Async(target: CUdeviceptr, value: c_uchar, number: usize, stream: CUstream) {
        fill(target, [value], number, stream)
    }

    fn cuMemsetD16Async(target: CUdeviceptr, value: c_ushort, number: usize, stream: CUstream) {
        fill(target, value.to_ne_bytes(), number, stream)
    }

    fn cuMemsetD32Async(target: CUdeviceptr, value: c_uint, number: usize, stream: CUstream) {
        fill(target, value.to_ne_bytes(), number, stream)
    }

    fn cuMemsetD8_v2(target: CUdeviceptr, value: c_uchar, number: usize) {
        fill(target, [value], number, DEFAULT)
    }

    fn cuMemsetD16_v2(target: CUdeviceptr, value: c_ushort, number: usize) {
        fill(target, value.to_ne_bytes(), number, DEFAULT)
    }

    fn cuMemsetD32_v2(target: CUdeviceptr, value: c_uint, number: usize) {
        fill(target, value.to_ne_bytes(), number, DEFAULT)
    }
}
