use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use cudarc::driver::{CudaContext, result, sys};
use proptest::prelude::*;

#[test]
fn a_stream_keeps_its_order_under_random_delays() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    for seed in 0..5 {
        mock.set("order", format!("random:{seed}:300"));
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let mut memory = stream.alloc_zeros::<u32>(1).unwrap();
        for value in 1..50u32 {
            stream.memcpy_htod(&[value], &mut memory).unwrap();
        }
        assert_eq!(stream.clone_dtoh(&memory).unwrap(), [49]);
    }
}

/// One stream writes, another reads; `waits` says whether it waits for the event in between.
fn read_of_another_stream(waits: bool) -> u32 {
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the test orders the streams itself, or leaves it on purpose.
    unsafe { context.disable_event_tracking() };
    let (writer, reader) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut memory = context.default_stream().alloc_zeros::<u32>(1).unwrap();
    context.default_stream().synchronize().unwrap();
    writer.memcpy_htod(&[7], &mut memory).unwrap();
    let written = writer.record_event(None).unwrap();
    if waits {
        reader.wait(&written).unwrap();
    }
    let read = reader.clone_dtoh(&memory).unwrap()[0];
    writer.synchronize().unwrap();
    read
}

#[test]
fn late_order_shows_a_missing_wait_and_passes_one_that_is_there() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    mock.set("order", "late:10000");
    assert_eq!(read_of_another_stream(true), 7);
    assert_eq!(read_of_another_stream(false), 0, "the reader saw what nobody had waited for");
}

#[test]
fn an_operation_that_nobody_waits_for_runs_after_its_grace() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    mock.set("order", "late:1");
    static RAN: AtomicU32 = AtomicU32::new(0);
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    put_on(stream.cu_stream(), &RAN);
    while RAN.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
}

/// Puts a function on a stream that adds one.
fn put_on(stream: sys::CUstream, counter: &'static AtomicU32) {
    unsafe extern "C" fn add(counter: *mut std::ffi::c_void) {
        // SAFETY: `put_on` passes a static.
        unsafe { &*counter.cast::<AtomicU32>() }.fetch_add(1, SeqCst);
    }
    let data = std::ptr::from_ref(counter).cast_mut().cast();
    // SAFETY: the function takes what it is given.
    unsafe { sys::cuLaunchHostFunc(stream, Some(add), data) }.result().unwrap();
}

#[test]
fn the_default_stream_waits_for_blocking_streams_and_they_for_it() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    for seed in 0..5 {
        mock.set("order", format!("random:{seed}:500"));
        let context = CudaContext::new(0).unwrap();
        let default = context.default_stream();
        let kind = result::stream::StreamKind::Default;
        let blocking = result::stream::create(kind).unwrap();
        let mut memory = default.alloc_zeros::<u32>(1).unwrap();
        let address = cudarc::driver::DevicePtr::device_ptr(&memory, &default).0;
        for round in 0..10u32 {
            // SAFETY: the range lies in the allocation.
            unsafe { sys::cuMemsetD32Async(address, 2 * round, 1, blocking) }.result().unwrap();
            let seen = default.clone_dtoh(&memory).unwrap();
            assert_eq!(seen, [2 * round]);
            default.memcpy_htod(&[2 * round + 1], &mut memory).unwrap();
            let own = context.per_thread_stream();
            assert_eq!(own.clone_dtoh(&memory).unwrap(), [2 * round + 1]);
        }
        // SAFETY: nobody uses the stream any more.
        unsafe { result::stream::destroy(blocking) }.unwrap();
    }
}

#[test]
fn events_tell_whether_they_are_past_and_how_long_apart() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let never = context.new_event(None).unwrap();
    assert!(never.try_is_complete().unwrap(), "an event that was not recorded is past");
    let start = stream.record_event(timed).unwrap();
    mock.set("hang", "fill:1");
    let memory = stream.alloc_zeros::<u8>(16).unwrap();
    let end = stream.record_event(timed).unwrap();
    start.synchronize().unwrap();
    assert!(!end.try_is_complete().unwrap());
    mock.release();
    end.synchronize().unwrap();
    assert!(end.try_is_complete().unwrap());
    assert!(start.elapsed_ms(&end).unwrap() >= 0.0);
    drop(memory);
}

#[test]
fn an_event_recorded_again_does_not_change_waits_of_before() {
    let mock = slimpipe_mock::driver();
    let _alone = mock.alone();
    let context = CudaContext::new(0).unwrap();
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let event = one.record_event(None).unwrap();
    two.wait(&event).unwrap();
    mock.set("hang", "fill:1");
    let memory = one.alloc_zeros::<u8>(16).unwrap();
    event.record(&one).unwrap();
    two.synchronize().unwrap();
    mock.release();
    one.synchronize().unwrap();
    drop(memory);
}

#[test]
fn priorities_are_kept_within_the_range_of_the_device() {
    let _alone = slimpipe_mock::driver().alone();
    let context = CudaContext::new(0).unwrap();
    for (asked, given) in [(-3, -3), (-9, -5), (4, 0)] {
        let stream = context.new_stream_with_priority(asked).unwrap();
        let mut priority = 1;
        // SAFETY: the place is good for writing.
        unsafe { sys::cuStreamGetPriority(stream.cu_stream(), &mut priority) }.result().unwrap();
        assert_eq!(priority, given);
    }
}

#[test]
fn a_host_function_must_not_call_the_driver() {
    let _alone = slimpipe_mock::driver().alone();
    static ANSWER: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn call(_: *mut std::ffi::c_void) {
        // SAFETY: no arguments.
        ANSWER.store(unsafe { sys::cuCtxSynchronize() } as u32, SeqCst);
    }
    let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
    // SAFETY: the function takes no data.
    unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(call), std::ptr::null_mut()) }
        .result()
        .unwrap();
    stream.synchronize().unwrap();
    assert_eq!(ANSWER.load(SeqCst), sys::CUresult::CUDA_ERROR_NOT_PERMITTED as u32);
}

/// One step of a program on streams that waits wherever it must.
#[derive(Clone, Debug)]
enum Step {
    Copy { stream: usize, from: usize, to: usize },
    Fill { stream: usize, to: usize, value: u32 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let copy = (0..3usize, 0..4usize, 0..4usize).prop_map(|(stream, from, to)| Step::Copy {
        stream,
        from,
        to,
    });
    let fill = (0..3usize, 0..4usize, any::<u32>()).prop_map(|(stream, to, value)| Step::Fill {
        stream,
        to,
        value,
    });
    prop::collection::vec(prop_oneof![copy, fill], 1..40)
}

/// Runs steps on three streams; each step waits for the last on another stream by an event.
fn run(steps: &[Step]) -> Vec<u32> {
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each step waits for the one before.
    unsafe { context.disable_event_tracking() };
    let streams = [(); 3].map(|_| context.new_stream().unwrap());
    let memory = streams[0].clone_htod(&[1u32, 2, 3, 4]).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&memory, &streams[0]).0;
    let mut last = streams[0].record_event(None).unwrap();
    for step in steps {
        let (Step::Copy { stream, .. } | Step::Fill { stream, .. }) = step;
        let stream = &streams[*stream];
        stream.wait(&last).unwrap();
        let cu = stream.cu_stream();
        let place = |i: usize| address + 4 * i as u64;
        // SAFETY: the ranges lie in the allocation.
        unsafe {
            match *step {
                Step::Copy { from, to, .. } => {
                    sys::cuMemcpyDtoDAsync_v2(place(to), place(from), 4, cu)
                }
                Step::Fill { to, value, .. } => sys::cuMemsetD32Async(place(to), value, 1, cu),
            }
        }
        .result()
        .unwrap();
        last = stream.record_event(None).unwrap();
    }
    streams[1].wait(&last).unwrap();
    streams[1].clone_dtoh(&memory).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_program_that_waits_gives_the_same_results_in_every_order(steps in steps(), seed: u8) {
        let mock = slimpipe_mock::driver();
        let _alone = mock.alone();
        let mut expected = vec![1u32, 2, 3, 4];
        for step in &steps {
            match *step {
                Step::Copy { from, to, .. } => expected[to] = expected[from],
                Step::Fill { to, value, .. } => expected[to] = value,
            }
        }
        for order in ["eager".to_owned(), format!("random:{seed}:50"), "late:5".to_owned()] {
            mock.set("order", &order);
            prop_assert_eq!(&run(&steps), &expected, "in order {}", order);
        }
    }
}
