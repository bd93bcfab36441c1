//! Tensors on a GPU as their users see them.

use half::{bf16, f16};
use slimpipe_mock::driver;
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, Element, RawTensor, stream};

use crate::{GPU, Rig, counted};

#[test]
fn every_dtype_goes_to_the_gpu_and_comes_back() {
    fn round_trip<T: Element + PartialEq>(values: [T; 3]) {
        let x = RawTensor::from_slice(&values, 3, GPU).unwrap();
        assert_eq!((x.device(), x.dtype(), x.bytes()), (GPU, T::DTYPE, 3 * size_of::<T>()));
        assert_eq!(x.narrow(0, 1, 2).unwrap().to_vec::<T>().unwrap(), values[1..]);
        let host = x.to_device(Device::Cpu).unwrap();
        assert_eq!(host.slice::<T>("test").unwrap(), values);
    }
    let _rig = Rig::new("late");
    round_trip([1.5f32, -0.0, f32::MAX]);
    round_trip([1.5, -2.0, 0.25].map(bf16::from_f32));
    round_trip([1.5, -2.0, 0.25].map(f16::from_f32));
    round_trip([i32::MIN, 0, 7]);
    round_trip([u32::MAX, 0, 7]);
    round_trip([i64::MIN, -100, 7]);
    round_trip([255u8, 0, 7]);
}

#[test]
fn any_view_is_read_in_row_major_order_and_moves_to_another_device_as_it_reads() {
    let _rig = Rig::new("random:5");
    let views = |x: RawTensor| {
        [
            x.clone(),
            x.transpose(0, 2).unwrap().narrow(0, 1, 2).unwrap(),
            x.narrow(1, 1, 1).unwrap(),
            x.narrow(0, 1, 1).unwrap().broadcast_to((5, 3, 4)).unwrap(),
            x.narrow(0, 0, 0).unwrap(),
        ]
    };
    let host = views(counted(&[2, 3, 4], Device::Cpu));
    for (there, here) in views(counted(&[2, 3, 4], GPU)).into_iter().zip(host) {
        let expected = here.to_vec::<f32>().unwrap();
        assert_eq!(there.to_vec::<f32>().unwrap(), expected);
        for (view, device) in [(&there, Device::Cpu), (&here, GPU), (&there, GPU)] {
            let moved = view.to_device(device).unwrap();
            assert_eq!((moved.device(), moved.dims()), (device, here.dims()));
            assert!(moved.layout().is_contiguous());
            assert_eq!(moved.to_vec::<f32>().unwrap(), expected);
        }
        assert_eq!(there.to_device(Device::Meta).unwrap().dims(), here.dims());
    }
    let x = counted(&[2, 2], GPU);
    assert!(x.to_device(GPU).unwrap().same_storage(&x), "it is there already");
    let meta = RawTensor::zeros(3, DType::F32, Device::Meta).unwrap();
    assert!(meta.to_device(GPU).unwrap_err().to_string().contains("no elements"));
}

#[test]
fn random_numbers_and_zeros_are_those_of_the_cpu() {
    let rig = Rig::new("late");
    let draw = |device| RawTensor::randn((3, 700_001), 0.5, Random::new(1, 2), device).unwrap();
    let (here, there) = (draw(Device::Cpu), draw(GPU));
    assert_eq!(here.to_vec::<f32>().unwrap(), there.to_vec::<f32>().unwrap());
    let mut x = RawTensor::empty(1000, DType::U8, GPU, "test").unwrap();
    rig.fill(x.device_ptr_mut("test").unwrap(), 7, 1000);
    x.with_rows(10, 20, |rows| rows.fill_zero()).unwrap();
    let expected: Vec<u8> = (0..1000).map(|i| if (10..30).contains(&i) { 0 } else { 7 }).collect();
    assert_eq!(x.to_vec::<u8>().unwrap(), expected);
    let zeros = RawTensor::zeros((4, 4), DType::I64, GPU).unwrap();
    assert_eq!(zeros.to_vec::<i64>().unwrap(), [0; 16]);
}

#[test]
fn the_host_cannot_reach_the_elements_and_is_told_what_to_do() {
    let _rig = Rig::new("eager");
    let mut x = counted(&[4], GPU);
    let told = x.slice::<f32>("norm").unwrap_err().to_string();
    assert_eq!(
        told,
        "norm: the tensor lies on cuda:0, where the CPU cannot reach its elements; copy it with to_device(Device::Cpu)"
    );
    assert!(x.slice_mut::<f32>("norm").is_err() && x.span::<f32>("norm").is_err());
    assert!(x.as_bytes("send").is_err() && x.as_bytes_mut("receive").is_err());
    let host = counted(&[4], Device::Cpu);
    let told = host.device_ptr("norm").unwrap_err().to_string();
    assert_eq!(
        told,
        "norm: a tensor on a GPU is needed, and this one lies on cpu; copy it with to_device"
    );
    assert!(x.transpose(0, 0).unwrap().device_ptr("norm").is_ok());
    let turned = counted(&[2, 2], GPU).transpose(0, 1).unwrap();
    assert!(turned.device_ptr("norm").unwrap_err().to_string().contains("not contiguous"));
    turned.device_span("norm").unwrap();
    let other = x.clone();
    assert!(x.device_ptr_mut("norm").unwrap_err().to_string().contains("shares its storage"));
    drop(other);
    x.device_ptr_mut("norm").unwrap();
}

#[test]
fn filling_a_tensor_does_not_wait_for_the_gpu_and_its_source_may_change_at_once() {
    let rig = Rig::new("late");
    let mut values = vec![1f32; 300_000];
    let first = RawTensor::from_slice(&values, 300_000, GPU).unwrap();
    let before = driver().counters();
    let x = RawTensor::from_slice(&values, 300_000, GPU).unwrap();
    values.fill(2.0);
    drop(values);
    let since = driver().counters().since(&before);
    assert_eq!((since.synchronisations(), since.get("copies.to_device")), (0, 19));
    assert!(x.to_vec::<f32>().unwrap().iter().all(|&value| value == 1.0));
    drop((first, rig));
}

#[test]
fn tensors_print_the_same_wherever_they_lie() {
    let _rig = Rig::new("eager");
    let print = |device| counted(&[2, 7], device).to_string();
    assert_eq!(print(GPU).replace("cuda:0", "cpu"), print(Device::Cpu));
}

#[test]
fn threads_that_entered_no_streams_share_those_of_the_process() {
    let rig = Rig::new("eager");
    let shared = || {
        let streams = stream::current(0).unwrap();
        (streams.compute().raw().addr(), counted(&[3], GPU).to_vec::<f32>().unwrap())
    };
    let (first, second) = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(shared));
        let [first, second] = threads.map(|thread| thread.join().unwrap());
        (first, second)
    });
    assert_eq!(first, second);
    assert_ne!(first.0, stream::current(0).unwrap().compute().raw().addr());
    assert!(stream::current(0).unwrap().compute().is(rig.streams.compute()));
    let other = stream::current(1).unwrap();
    assert_eq!(other.context().ordinal(), 1, "another GPU has streams of its own");
    assert!(stream::current(16).is_err());
}
