//! Tensors as their users see them: views, sharing, dtypes, errors.

use half::{bf16, f16};
use slimpipe_allocator::{Bytes, Memory, UnitId};
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, Element, RawTensor};

fn counted(shape: &[usize]) -> RawTensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
    RawTensor::from_slice(&values, shape, Device::Cpu).unwrap()
}

fn text(result: slimpipe_runtime::Result<RawTensor>) -> String {
    result.expect_err("the call must fail").to_string()
}

#[test]
fn views_share_their_memory_and_read_the_right_elements() {
    let x = counted(&[2, 3, 4]);
    let view = x.transpose(0, 2).unwrap().narrow(0, 1, 2).unwrap();
    assert!(view.same_storage(&x));
    assert_eq!(view.dims(), [2, 3, 2]);
    assert_eq!(
        view.to_vec::<f32>().unwrap(),
        [1., 13., 5., 17., 9., 21., 2., 14., 6., 18., 10., 22.]
    );
    let again = view.permute(&[2, 1, 0]).unwrap();
    assert_eq!(again.to_vec::<f32>().unwrap()[..4], [1., 2., 5., 6.]);
}

#[test]
fn broadcasting_and_reshaping_move_nothing() {
    let x = counted(&[3]);
    let rows = x.unsqueeze(0).unwrap().broadcast_to((2, 3)).unwrap();
    assert!(rows.same_storage(&x) && rows.bytes() == 24);
    assert_eq!(rows.to_vec::<f32>().unwrap(), [0., 1., 2., 0., 1., 2.]);
    let split = counted(&[4, 6]).narrow(1, 2, 4).unwrap().reshape((4, 2, 2)).unwrap();
    assert_eq!(split.narrow(0, 1, 1).unwrap().to_vec::<f32>().unwrap(), [8., 9., 10., 11.]);
}

#[test]
fn every_dtype_goes_in_and_comes_out() {
    fn round_trip<T: Element + PartialEq>(values: [T; 3]) {
        let x = RawTensor::from_slice(&values, 3, Device::Cpu).unwrap();
        assert_eq!((x.dtype(), x.bytes()), (T::DTYPE, 3 * size_of::<T>()));
        assert_eq!(x.narrow(0, 1, 2).unwrap().to_vec::<T>().unwrap(), values[1..]);
    }
    round_trip([1.5f32, -0.0, f32::MAX]);
    round_trip([1.5, -2.0, 0.25].map(bf16::from_f32));
    round_trip([1.5, -2.0, 0.25].map(f16::from_f32));
    round_trip([i32::MIN, 0, 7]);
    round_trip([u32::MAX, 0, 7]);
    round_trip([i64::MIN, -100, 7]);
    round_trip([255u8, 0, 7]);
}

#[test]
fn only_the_sole_holder_of_a_tensor_may_write_it() {
    let mut x = counted(&[4]);
    let other = x.clone();
    let error = x.slice_mut::<f32>("op").unwrap_err().to_string();
    assert_eq!(
        error,
        "op: the tensor shares its storage with other handles and cannot be written in place"
    );
    drop(other);
    x.slice_mut::<f32>("op").unwrap()[0] = 9.0;
    assert_eq!(x.to_vec::<f32>().unwrap(), [9., 1., 2., 3.]);
}

#[test]
fn a_part_of_an_unshared_tensor_can_be_written() {
    let mut x = counted(&[3, 2]);
    x.with_rows(1, 1, |row| row.fill_zero()).unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [0., 1., 0., 0., 4., 5.]);
    assert!(x.with_rows(2, 2, |row| row.fill_zero()).is_err());
    assert_eq!(x.dims(), [3, 2], "the whole is back after a failure");
}

#[test]
fn empty_tensors_and_views_are_harmless() {
    let x = RawTensor::zeros((0, 3), DType::F32, Device::Cpu).unwrap();
    assert!(x.to_vec::<f32>().unwrap().is_empty());
    let end = counted(&[2, 3]).narrow(0, 2, 0).unwrap().narrow(1, 1, 2).unwrap();
    assert_eq!(end.dims(), [0, 2]);
    assert!(end.to_vec::<f32>().unwrap().is_empty());
    assert!(
        end.transpose(0, 1).unwrap().reshape((0, 7)).unwrap().to_vec::<f32>().unwrap().is_empty()
    );
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    let x = counted(&[2, 3]);
    let transposed = x.transpose(0, 1).unwrap();
    let cases = [
        (x.narrow(1, 2, 2), "narrow: elements 2..4 of dimension 1 lie outside shape [2, 3]"),
        (x.narrow(2, 0, 1), "narrow: there is no dimension 2 in a tensor of shape [2, 3]"),
        (x.permute(&[0, 0]), "permute: [0, 0] does not name each dimension of shape [2, 3] once"),
        (x.broadcast_to((2, 4)), "broadcast_to: shapes [2, 3] and [2, 4] do not broadcast"),
        (x.reshape((2, 4)), "reshape: 6 elements of shape [2, 3] do not fill shape [2, 4]"),
        (
            transposed.reshape(6),
            "reshape: a tensor of shape [3, 2] with strides [1, 3] is not contiguous; call contiguous() first",
        ),
        (x.squeeze(0), "squeeze: dimension 0 of shape [2, 3] has extent 2, not 1"),
        (
            RawTensor::from_slice(&[1f32], (1, 2), Device::Cpu),
            "from_slice: 1 values for shape [1, 2]",
        ),
        (
            RawTensor::empty((1 << 40, 1 << 40), DType::F32, Device::Meta, "op"),
            "op: shape [1099511627776, 1099511627776] has more bytes of f32 than there are addresses",
        ),
    ];
    for (result, expected) in cases {
        assert_eq!(text(result), expected);
    }
    assert_eq!(
        x.to_vec::<i32>().unwrap_err().to_string(),
        "to_vec: expected dtype i32, got f32; convert with to_dtype first"
    );
}

#[test]
fn meta_tensors_have_views_but_no_elements_and_take_no_memory() {
    let memory = Memory::builder(0).limit(Bytes(4096)).build();
    let _entered = memory.enter();
    let x = RawTensor::randn((1 << 20, 1 << 20), 1.0, Random::new(0, 0), Device::Meta).unwrap();
    let view = x.transpose(0, 1).unwrap().narrow(0, 3, 5).unwrap();
    assert_eq!((view.dims(), view.is_meta()), ([5, 1 << 20].as_slice(), true));
    assert_eq!(memory.stats().allocations, 0);
    let error = view.to_vec::<f32>().unwrap_err().to_string();
    assert!(error.contains("run on Device::Cpu to read values"), "{error}");
}

#[test]
fn memory_is_taken_from_the_thread_and_given_back_by_the_last_view() {
    let memory = Memory::builder(0).build();
    let _entered = memory.enter();
    let x = RawTensor::zeros(1000, DType::F32, Device::Cpu).unwrap();
    let view = x.narrow(0, 10, 5).unwrap();
    drop(x);
    assert_eq!(memory.stats().total.requested.current, 4000);
    drop(view);
    assert_eq!(memory.stats().total.requested.current, 0);
}

#[test]
fn a_tensor_of_a_closed_unit_is_an_error_that_names_both() {
    let memory = Memory::builder(0).build();
    let _entered = memory.enter();
    let id = UnitId { microbatch: 1, slice: 2, chunk: 0 };
    // Without a plan everything is overflow, which outlives units: plan one allocation.
    let recorder = slimpipe_allocator::Recorder::new();
    let phase = recorder.forward();
    let saved = RawTensor::zeros(8, DType::F32, Device::Meta).unwrap();
    drop(phase);
    drop(saved);
    memory.install(0, recorder.finish()).unwrap();

    let unit = memory.unit(id).unwrap();
    let phase = unit.forward();
    let saved = RawTensor::zeros(8, DType::F32, Device::Cpu).unwrap();
    drop(phase);
    assert_eq!(saved.to_vec::<f32>().unwrap(), [0.0; 8]);
    drop(unit);
    let error = saved.narrow(0, 0, 1).unwrap().to_vec::<f32>().unwrap_err().to_string();
    assert!(error.starts_with("to_vec: the tensor belongs to unit mb1/slice2/chunk0"), "{error}");
}

#[test]
fn a_failed_allocation_leaves_everything_usable() {
    let memory = Memory::builder(3).limit(Bytes(64 << 10)).build();
    let _entered = memory.enter();
    let kept = RawTensor::zeros(100, DType::F32, Device::Cpu).unwrap();
    let error = RawTensor::zeros(1 << 20, DType::F32, Device::Cpu).unwrap_err().to_string();
    assert!(error.starts_with("out of memory on rank 3: zeros asked for 4.0 MiB"), "{error}");
    assert_eq!(kept.to_vec::<f32>().unwrap(), [0.0; 100]);
    assert!(RawTensor::zeros(200, DType::F32, Device::Cpu).is_ok());
}

#[test]
fn handles_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<RawTensor>();
    let x = counted(&[100]);
    let view = x.narrow(0, 50, 50).unwrap();
    let sum = std::thread::spawn(move || view.to_vec::<f32>().unwrap().iter().sum::<f32>());
    assert_eq!(sum.join().unwrap(), (50..100).sum::<i32>() as f32);
}

#[test]
fn in_debug_builds_a_rank_that_computes_on_anothers_memory_panics() {
    let x = {
        let _entered = Memory::builder(1).build().enter();
        counted(&[4])
    };
    assert_eq!(x.to_vec::<f32>().unwrap().len(), 4, "a thread without a memory may look");
    let _entered = Memory::builder(2).build().enter();
    assert_eq!(x.as_bytes("send").unwrap().len(), 16, "a message may be read");
    let touched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| x.to_vec::<f32>()));
    assert_eq!(touched.is_err(), cfg!(debug_assertions));
}
