//! Streams and events.

use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{Context, CudaError, Event, Stream, copy};

use crate::Rig;

#[test]
fn a_stream_waits_for_an_event_of_another_and_not_without_one() {
    let rig = Rig::new("late");
    let other = Stream::new(rig.context, Priority::High).unwrap();
    let range = rig.range(4096);
    rig.write(range.start(), &[1u8; 16]);
    let event = Event::new(rig.context).unwrap();
    assert!(event.is_done().unwrap(), "an event that was not recorded is no wait");
    // SAFETY: committed memory, used in the order that the events give.
    unsafe { copy::fill(&other, range.start(), 2, 16) }.unwrap();
    other.record(&event).unwrap();
    assert_eq!(rig.read::<u8>(range.start(), 16), [1; 16], "the other stream has not begun yet");
    rig.stream.wait(&event).unwrap();
    assert_eq!(rig.read::<u8>(range.start(), 16), [2; 16]);
    assert!(event.is_done().unwrap() && other.is_done().unwrap());
}

#[test]
fn timed_events_tell_the_time_between_them_and_others_say_they_cannot() {
    let rig = Rig::new("eager");
    let [first, second] = [(); 2].map(|()| Event::timed(rig.context).unwrap());
    rig.stream.record(&first).unwrap();
    rig.stream.record(&second).unwrap();
    second.synchronize().unwrap();
    assert!(second.elapsed(&first).unwrap() >= 0.0);
    let plain = Event::new(rig.context).unwrap();
    rig.stream.record(&plain).unwrap();
    plain.synchronize().unwrap();
    assert!(plain.elapsed(&first).is_err());
}

#[test]
fn all_threads_share_one_context_of_a_gpu_and_a_number_too_high_is_refused() {
    let _rig = Rig::new("eager");
    let contexts = std::thread::scope(|scope| {
        [(); 4]
            .map(|()| scope.spawn(|| std::ptr::from_ref(Context::of(1).unwrap()).addr()))
            .map(|thread| thread.join().unwrap())
    });
    assert!(contexts.iter().all(|&context| context == contexts[0]));
    let error = Context::of(4).err().unwrap();
    assert!(matches!(error, CudaError::NoSuchGpu { ordinal: 4, count: 4 }), "{error}");
}

#[test]
fn a_gpu_older_than_the_kernels_is_refused_in_one_line() {
    let _rig = Rig::new("eager");
    slimpipe_mock::driver().set("capability", "8.6");
    let refused = Context::of(3).err();
    slimpipe_mock::driver().set("capability", "9.0");
    let told = refused.unwrap().to_string();
    assert!(
        told.ends_with("of compute capability 8.6; the kernels need 9.0 (H100, H200)"),
        "{told}"
    );
    assert!(told.starts_with("GPU 3 is a ") && !told.contains('\n'), "{told}");
    assert!(Context::of(3).is_ok(), "a refusal is not kept");
}
