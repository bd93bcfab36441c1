use cudarc::driver::{CudaContext, DriverError, result, sys};
use sys::CUresult;

#[test]
fn errors_have_names_and_descriptions() {
    let _alone = slimpipe_mock::driver().alone();
    let error = DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(error.error_name().unwrap().to_str().unwrap(), "CUDA_ERROR_ILLEGAL_ADDRESS");
    assert!(error.error_string().unwrap().to_str().unwrap().contains("illegal memory access"));
}

#[test]
fn the_nth_allocation_fails_for_want_of_memory_and_the_next_does_not() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let stream = CudaContext::new(0).unwrap().default_stream();
    mock.set("fail_allocation", 2);
    let results = [(); 3].map(|_| stream.alloc_zeros::<u8>(10).map(|_| ()).map_err(|e| e.0));
    // The second is tried again after waiting for memory, as the driver does, and then succeeds.
    assert_eq!(results, [Ok(()); 3]);
    mock.set("fail_allocation", "cuMemCreate:1");
    let mut handle = 0;
    // SAFETY: a structure of plain numbers and pointers, of which zeros are valid.
    let mut properties: sys::CUmemAllocationProp = unsafe { std::mem::zeroed() };
    properties.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    // SAFETY: all places are good for writing and reading.
    let mut create = || unsafe { sys::cuMemCreate(&mut handle, 2 << 20, &properties, 0) };
    assert_eq!(create(), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(create(), CUresult::CUDA_SUCCESS);
    // SAFETY: the handle is good.
    unsafe { sys::cuMemRelease(handle) }.result().unwrap();
}

#[test]
fn a_device_holds_no_more_than_its_capacity() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    mock.set("memory", "1M");
    let stream = CudaContext::new(0).unwrap().default_stream();
    let held = stream.alloc_zeros::<u8>(1 << 20).unwrap();
    let error = stream.alloc_zeros::<u8>(1).unwrap_err();
    assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    drop(held);
    // What is about to be freed is waited for.
    assert!(stream.alloc_zeros::<u8>(1 << 20).is_ok());
}

#[test]
fn a_use_after_free_fails_the_context_and_is_told() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let context = CudaContext::new(0).unwrap();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let memory = one.alloc_zeros::<u8>(64).unwrap();
    let address = memory.leak();
    one.synchronize().unwrap();
    mock.set("order", "late:10000");
    // SAFETY: the fill is submitted while the memory is there and runs when it is gone.
    unsafe {
        sys::cuMemsetD8Async(address, 1, 64, two.cu_stream()).result().unwrap();
        result::free_async(address, one.cu_stream()).unwrap();
    }
    one.synchronize().unwrap();
    assert_eq!(two.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(mock.fault().unwrap().contains("a fill of 64 bytes"), "{:?}", mock.fault());
}

#[test]
fn handles_that_are_gone_are_errors() {
    let _alone = slimpipe_mock::driver().alone();
    let context = CudaContext::new(0).unwrap();
    let kind = result::stream::StreamKind::NonBlocking;
    let stream = result::stream::create(kind).unwrap();
    // SAFETY: the mock is asked on purpose for what is gone.
    unsafe {
        result::stream::destroy(stream).unwrap();
        assert_eq!(sys::cuStreamSynchronize(stream), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuStreamDestroy_v2(stream), CUresult::CUDA_ERROR_INVALID_HANDLE);
        let mut memory = 0;
        sys::cuMemAlloc_v2(&mut memory, 16).result().unwrap();
        sys::cuMemFree_v2(memory).result().unwrap();
        assert_eq!(sys::cuMemFree_v2(memory), CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    drop(context);
}

#[test]
fn a_hanging_stream_is_not_waited_for_when_its_context_fails() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let context = CudaContext::new(0).unwrap();
    let (hangs, fails) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    mock.set("hang", "record:1");
    let event = hangs.record_event(None).unwrap();
    assert!(!event.try_is_complete().unwrap());
    let mut address = 0;
    // SAFETY: the place is good for writing; the range has no memory on purpose.
    unsafe {
        sys::cuMemAddressReserve(&mut address, 2 << 20, 0, 0, 0).result().unwrap();
        sys::cuMemsetD8Async(address, 0, 1, fails.cu_stream()).result().unwrap();
    }
    assert_eq!(hangs.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(fails.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    mock.release();
}

#[test]
fn the_last_release_of_a_context_ends_it_and_a_new_one_is_sound() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let memory = stream.alloc_zeros::<u8>(16).unwrap().leak();
    stream.synchronize().unwrap();
    assert_ne!(context.mem_get_info().unwrap().0, context.total_mem().unwrap());
    drop((stream, context));
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.mem_get_info().unwrap().0, context.total_mem().unwrap());
    // SAFETY: the memory went with the first context.
    let gone = unsafe { sys::cuMemFree_v2(memory) };
    assert_eq!(gone, CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn a_machine_may_have_no_device_or_an_old_one() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    mock.set("devices", 0);
    assert_eq!(CudaContext::new(0).unwrap_err().0, CUresult::CUDA_ERROR_NO_DEVICE);
    mock.set("devices", 1);
    assert_eq!(CudaContext::new(1).unwrap_err().0, CUresult::CUDA_ERROR_INVALID_DEVICE);
    mock.set("capability", "8.0");
    assert_eq!(CudaContext::new(0).unwrap().compute_capability().unwrap(), (8, 0));
    let mut version = 0;
    mock.set("driver_version", 12020);
    // SAFETY: the place is good for writing.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().unwrap();
    assert_eq!(version, 12020);
}

#[test]
#[should_panic(expected = "the mock refused order: order = \"sideways\"")]
fn a_setting_that_cannot_be_is_refused() {
    slimpipe_mock::driver().set("order", "sideways");
}

#[test]
fn what_is_not_imitated_says_so() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    assert_eq!(stream.begin_capture(mode).unwrap_err().0, CUresult::CUDA_ERROR_NOT_SUPPORTED);
}
