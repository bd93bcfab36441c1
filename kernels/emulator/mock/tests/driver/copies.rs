use cudarc::driver::{CudaContext, result, sys};

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 * 0.5).collect()
}

#[test]
fn what_is_copied_to_a_device_comes_back() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.name().unwrap(), "Mock H200");
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
    let stream = context.new_stream().unwrap();
    let sent = numbers(1000);
    let there = stream.clone_htod(&sent).unwrap();
    let copy = stream.clone_dtod(&there).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), sent);
    let counters = mock.counters();
    assert_eq!(counters.get("copies.to_device.bytes"), 4000);
    assert_eq!(counters.get("copies.on_device"), 1);
    assert_eq!(counters.get("copies.to_host"), 1);
}

#[test]
fn new_device_memory_is_poisoned_and_cleared_memory_is_not() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = CudaContext::new(0).unwrap().default_stream();
    // SAFETY: the bytes are only looked at.
    let new = unsafe { stream.alloc::<u8>(3) }.unwrap();
    assert_eq!(stream.clone_dtoh(&new).unwrap(), [0xCD; 3]);
    let cleared = stream.alloc_zeros::<u16>(5).unwrap();
    assert_eq!(stream.clone_dtoh(&cleared).unwrap(), [0; 5]);
}

#[test]
fn fills_have_patterns_of_one_two_and_four_bytes() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = CudaContext::new(0).unwrap().default_stream();
    let memory = stream.alloc_zeros::<u32>(4).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&memory, &stream).0;
    let cu = stream.cu_stream();
    // SAFETY: the ranges lie in the allocation.
    unsafe {
        sys::cuMemsetD32Async(address, 0x0102_0304, 4, cu).result().unwrap();
        sys::cuMemsetD16Async(address + 4, 0xABCD, 2, cu).result().unwrap();
        sys::cuMemsetD8Async(address + 15, 0xFF, 1, cu).result().unwrap();
        let misaligned = sys::cuMemsetD32Async(address + 2, 0, 1, cu);
        assert_eq!(misaligned, sys::CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let expected = [0x0102_0304, 0xABCD_ABCD, 0x0102_0304, 0xFF02_0304];
    assert_eq!(stream.clone_dtoh(&memory).unwrap(), expected);
}

#[test]
fn pageable_memory_is_read_before_the_call_returns_and_pinned_memory_is_not() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    // Nothing runs before somebody waits.
    mock.set("order", "late:10000");
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let (mut pageable, n) = (numbers(64), 64);
    let from_pageable = stream.clone_htod(&pageable).unwrap();
    pageable.fill(-1.0);
    let pinned = result_malloc_host(n * 4);
    // SAFETY: the pinned memory holds n numbers, the device memory too.
    unsafe {
        pinned.cast::<f32>().copy_from_nonoverlapping(numbers(n).as_ptr(), n);
        let from_pinned = stream.alloc::<f32>(n).unwrap();
        let address = cudarc::driver::DevicePtr::device_ptr(&from_pinned, &stream).0;
        sys::cuMemcpyHtoDAsync_v2(address, pinned.cast(), n * 4, stream.cu_stream())
            .result()
            .unwrap();
        // A program that does this has a race; here the copy always loses it.
        pinned.cast::<f32>().write(42.0);
        assert_eq!(stream.clone_dtoh(&from_pageable).unwrap(), numbers(n));
        assert_eq!(stream.clone_dtoh(&from_pinned).unwrap()[0], 42.0);
        result::free_host(pinned).unwrap();
    }
}

/// Pinned memory, for which a context must be current.
fn result_malloc_host(bytes: usize) -> *mut std::ffi::c_void {
    // SAFETY: the test frees it.
    unsafe { result::malloc_host(bytes, 0) }.unwrap()
}

#[test]
fn a_copy_to_pinned_memory_does_not_wait_and_one_to_pageable_memory_does() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    mock.set("order", "late:10000");
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let there = stream.clone_htod(&numbers(16)).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&there, &stream).0;
    let pinned = result_malloc_host(64).cast::<f32>();
    // SAFETY: 16 numbers fit in both.
    unsafe {
        pinned.write(-1.0);
        let before = mock.counters();
        sys::cuMemcpyDtoHAsync_v2(pinned.cast(), address, 64, stream.cu_stream()).result().unwrap();
        assert_eq!(mock.counters().since(&before).synchronisations(), 0);
        assert_eq!(pinned.read(), -1.0);
        stream.synchronize().unwrap();
        assert_eq!(pinned.add(3).read(), 1.5);
        let before = mock.counters();
        assert_eq!(stream.clone_dtoh(&there).unwrap(), numbers(16));
        assert_eq!(mock.counters().since(&before).get("synchronisations.implicit"), 1);
        result::free_host(pinned.cast()).unwrap();
    }
}

#[test]
fn memory_of_the_program_can_be_pinned_once() {
    let _alone = slimpipe_mock::driver().alone();
    let _context = CudaContext::new(0).unwrap();
    let mut own = vec![0u8; 100];
    let address = own.as_mut_ptr().cast();
    // SAFETY: the memory outlives the registration.
    unsafe {
        sys::cuMemHostRegister_v2(address, 100, 0).result().unwrap();
        let again = sys::cuMemHostRegister_v2(address, 10, 0);
        assert_eq!(again, sys::CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        let mut device = 0;
        sys::cuMemHostGetDevicePointer_v2(&mut device, address, 0).result().unwrap();
        assert_eq!(device, address as u64);
        sys::cuMemHostUnregister(address).result().unwrap();
        let gone = sys::cuMemHostUnregister(address);
        assert_eq!(gone, sys::CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    }
}

#[test]
fn devices_have_memories_of_their_own_and_copies_between_them() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    assert_eq!(CudaContext::device_count().unwrap(), 4);
    let (one, two) = (CudaContext::new(0).unwrap(), CudaContext::new(1).unwrap());
    let (from, to) = (one.default_stream(), two.default_stream());
    let there = from.clone_htod(&numbers(10)).unwrap();
    from.synchronize().unwrap();
    let copy = to.clone_dtod(&there).unwrap();
    assert_eq!(to.clone_dtoh(&copy).unwrap(), numbers(10));
    assert_eq!(mock.counters().get("copies.between_devices"), 1);
    assert_ne!(one.uuid().unwrap().bytes, two.uuid().unwrap().bytes);
}

#[test]
fn free_memory_shrinks_with_allocations_and_pools_know_what_is_used() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    mock.set("memory", "1M");
    let context = CudaContext::new(0).unwrap();
    let stream = context.default_stream();
    assert_eq!(context.mem_get_info().unwrap(), (1 << 20, 1 << 20));
    let half = stream.alloc_zeros::<u8>(1 << 19).unwrap();
    assert_eq!(context.mem_get_info().unwrap().0, 1 << 19);
    let mut used = 0u64;
    // SAFETY: the attribute is 64 bits wide.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device()).unwrap();
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        result::mem_pool::get_attribute(pool, attribute, (&raw mut used).cast()).unwrap();
    }
    assert_eq!(used, 1 << 19);
    drop(half);
    stream.synchronize().unwrap();
    assert_eq!(context.mem_get_info().unwrap().0, 1 << 20);
}
