use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, sys};

use super::range::{MIB2, Range, properties};
use sys::CUresult::{CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_INVALID_VALUE, CUDA_SUCCESS};

fn stream() -> Arc<CudaStream> {
    CudaContext::new(0).unwrap().new_stream().unwrap()
}

fn send(stream: &CudaStream, address: u64, bytes: &[u8]) -> sys::CUresult {
    // SAFETY: the bytes are staged before the call returns.
    unsafe {
        sys::cuMemcpyHtoDAsync_v2(address, bytes.as_ptr().cast(), bytes.len(), stream.cu_stream())
    }
}

fn receive(stream: &CudaStream, address: u64, bytes: &mut [u8]) -> sys::CUresult {
    let target = bytes.as_mut_ptr().cast();
    // SAFETY: the memory is pageable, so the call waits.
    unsafe { sys::cuMemcpyDtoHAsync_v2(target, address, bytes.len(), stream.cu_stream()) }
}

#[test]
fn memory_grows_in_place_and_a_copy_may_cross_its_pieces() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let stream = stream();
    let range = Range::reserve(3);
    range.commit(0);
    let sent: Vec<u8> = (0..200).collect();
    assert_eq!(send(&stream, range.piece(0), &sent), CUDA_SUCCESS);
    range.commit(1);
    let across = range.piece(1) - 100;
    assert_eq!(send(&stream, across, &sent), CUDA_SUCCESS);
    let mut back = vec![0; 200];
    assert_eq!(receive(&stream, range.piece(0), &mut back), CUDA_SUCCESS);
    assert_eq!(back, sent, "growing keeps what is there");
    assert_eq!(receive(&stream, across, &mut back), CUDA_SUCCESS);
    assert_eq!(back, sent);
    range.decommit(1);
    range.decommit(0);
    range.release();
    let counters = mock.counters();
    assert_eq!((counters.get("maps"), counters.get("unmaps")), (2, 2));
    let free = stream.context().mem_get_info().unwrap();
    assert_eq!(free.0, free.1, "all memory is back");
}

#[test]
fn memory_that_is_mapped_anew_is_poisoned() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = stream();
    let range = Range::reserve(1);
    range.commit(0);
    assert_eq!(send(&stream, range.piece(0), &[1, 2, 3]), CUDA_SUCCESS);
    stream.synchronize().unwrap();
    range.decommit(0);
    range.commit(0);
    let mut back = [0; 3];
    assert_eq!(receive(&stream, range.piece(0), &mut back), CUDA_SUCCESS);
    assert_eq!(back, [0xCD; 3]);
    range.decommit(0);
    range.release();
}

#[test]
fn an_access_to_a_part_without_memory_fails_the_context_for_good() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let stream = stream();
    let range = Range::reserve(2);
    range.commit(0);
    assert_eq!(send(&stream, range.piece(1) - 8, &[0; 16]), CUDA_SUCCESS, "found out later");
    let error = stream.synchronize().unwrap_err();
    assert_eq!(error.0, CUDA_ERROR_ILLEGAL_ADDRESS);
    let fault = mock.fault().unwrap();
    assert!(fault.contains(&format!("{:#x}", range.piece(1))), "{fault}");
    // Every later call answers the same.
    assert_eq!(send(&stream, range.piece(0), &[0]), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(stream.alloc_zeros::<u8>(1).unwrap_err().0, CUDA_ERROR_ILLEGAL_ADDRESS);
    range.decommit(0);
    range.release();
}

#[test]
fn memory_without_access_is_as_good_as_none() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = stream();
    let range = Range::reserve(1);
    range.commit(0);
    range.allow(0, sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE);
    assert_eq!(send(&stream, range.piece(0), &[0]), CUDA_SUCCESS);
    assert_eq!(stream.synchronize().unwrap_err().0, CUDA_ERROR_ILLEGAL_ADDRESS);
    range.decommit(0);
    range.release();
}

#[test]
fn what_the_driver_refuses_is_refused() {
    let _alone = slimpipe_mock::driver().alone();
    let _stream = stream();
    let range = Range::reserve(2);
    let (mut address, mut handle) = (0, 0);
    // SAFETY: all places are good for writing and reading.
    unsafe {
        let mut granularity = 0;
        sys::cuMemGetAllocationGranularity(
            &mut granularity,
            &properties(0),
            sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM,
        )
        .result()
        .unwrap();
        assert_eq!(granularity, MIB2);
        let odd = MIB2 + 4096;
        assert_eq!(sys::cuMemAddressReserve(&mut address, odd, 0, 0, 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemCreate(&mut handle, odd, &properties(0), 0), CUDA_ERROR_INVALID_VALUE);
        sys::cuMemCreate(&mut handle, MIB2, &properties(0), 0).result().unwrap();
        let map = |address, bytes, offset| sys::cuMemMap(address, bytes, offset, handle, 0);
        assert_eq!(map(range.piece(0), 2 * MIB2, 0), CUDA_ERROR_INVALID_VALUE, "too large");
        assert_eq!(map(range.piece(0) + 4096, MIB2, 0), CUDA_ERROR_INVALID_VALUE, "askew");
        assert_eq!(map(range.piece(2), MIB2, 0), CUDA_ERROR_INVALID_VALUE, "not reserved");
        assert_eq!(map(range.piece(0), MIB2, 0), CUDA_SUCCESS);
        assert_eq!(map(range.piece(0), MIB2, 0), CUDA_ERROR_INVALID_VALUE, "mapped already");
        let free = || sys::cuMemAddressFree(range.address, 2 * MIB2);
        assert_eq!(free(), CUDA_ERROR_INVALID_VALUE, "something is mapped");
        assert_eq!(sys::cuMemUnmap(range.address, 2 * MIB2), CUDA_ERROR_INVALID_VALUE, "a gap");
        assert_eq!(sys::cuMemUnmap(range.address, MIB2), CUDA_SUCCESS);
        assert_eq!(free(), CUDA_SUCCESS);
        assert_eq!(free(), CUDA_ERROR_INVALID_VALUE, "free already");
        sys::cuMemRelease(handle).result().unwrap();
        assert_eq!(sys::cuMemRelease(handle), CUDA_ERROR_INVALID_VALUE, "released already");
    }
}

#[test]
fn host_code_that_reads_a_device_address_is_caught_by_the_processor() {
    let _alone = slimpipe_mock::driver().alone();
    let stream = stream();
    let memory = stream.alloc_zeros::<u8>(1).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&memory, &stream).0;
    // An address with bits above the 47th is none that a process can have.
    assert!(address >> 47 != 0, "{address:#x} could be an address of the host");
}
