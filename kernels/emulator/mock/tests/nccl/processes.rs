//! Ranks that are processes: this test binary starts itself again. The children are given the mocks
//! by their environment alone and do not know that they run on them.

use std::{
    env,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::ranks::{Code, Rank};
use cudarc::nccl::{result, sys};

/// What tells a child its rank.
const RANK: &str = "SLIMPIPE_TEST_RANK";

/// The rank of this process, if it is a child.
fn own_rank() -> Option<usize> {
    env::var(RANK).ok().and_then(|rank| rank.parse().ok())
}

/// Starts a test of this binary again as each of `ranks` ranks.
fn start(test: &str, ranks: usize, set: &[(&str, &str)]) -> Vec<Child> {
    let id = format!("127.0.0.1:{}-{test}", std::process::id());
    let start = |rank: usize| {
        let mut command = Command::new(env::current_exe().unwrap());
        slimpipe_mock::preload(&mut command);
        command.args([&format!("processes::{test}"), "--exact", "--nocapture"]);
        command.env(RANK, rank.to_string()).env("NCCL_COMM_ID", &id);
        command.envs(set.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    (0..ranks).map(start).collect()
}

/// Waits for children; kills them and fails if that takes too long.
fn finish(children: Vec<Child>) -> Vec<Output> {
    let end = Instant::now() + Duration::from_secs(60);
    let finish = |mut child: Child| {
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                child.kill().unwrap();
                let output = child.wait_with_output().unwrap();
                panic!("a process hangs: {}", String::from_utf8_lossy(&output.stderr));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().unwrap()
    };
    children.into_iter().map(finish).collect()
}

fn expect_success(outputs: &[Output]) {
    for (rank, output) in outputs.iter().enumerate() {
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "rank {rank}: {out}{err}");
    }
}

fn join(rank: usize, ranks: usize) -> Rank {
    let id = result::get_uniqueid().unwrap();
    Rank::join(rank, ranks, id).unwrap()
}

#[test]
fn three_processes_pass_numbers_around_and_add_them_up() {
    let Some(number) = own_rank() else {
        for send in ["buffered", "rendezvous"] {
            let set = [("SLIMPIPE_MOCK_NCCL_SEND", send), ("SLIMPIPE_MOCK_CUDA_ORDER", "random:1")];
            let test = "three_processes_pass_numbers_around_and_add_them_up";
            expect_success(&finish(start(test, 3, &set)));
        }
        return;
    };
    let rank = join(number, 3);
    assert_eq!(rank.sum(number as f32 + 1.0), Ok(6.0));
    let own = rank.stream.clone_htod(&vec![number as u32; 100_000]).unwrap();
    let got = rank.stream.alloc_zeros::<u32>(100_000).unwrap();
    for _ in 0..5 {
        result::group_start().unwrap();
        rank.send(&own, sys::ncclDataType_t::ncclUint32, (number + 1) % 3).unwrap();
        rank.receive(&got, sys::ncclDataType_t::ncclUint32, (number + 2) % 3).unwrap();
        result::group_end().unwrap();
    }
    let got = rank.stream.clone_dtoh(&got).unwrap();
    assert!(got.iter().all(|x| *x as usize == (number + 2) % 3));
    let mut pair = std::ptr::null_mut();
    // SAFETY: the places are good for writing.
    unsafe {
        let none = std::ptr::null_mut();
        let done = sys::ncclCommSplit(rank.comm, i32::from(number == 0), 0, &mut pair, none);
        assert_eq!(done, Code::ncclSuccess);
    }
    let pair = Rank { rank: number, stream: rank.stream.clone(), comm: pair };
    assert_eq!(pair.sum(1.0), Ok(if number == 0 { 1.0 } else { 2.0 }));
    pair.destroy();
    rank.destroy();
}

#[test]
fn a_process_that_ends_is_named_by_the_others() {
    let Some(number) = own_rank() else {
        let set = [("SLIMPIPE_MOCK_NCCL_FAULT", "exit:1:3")];
        let outputs = finish(start("a_process_that_ends_is_named_by_the_others", 3, &set));
        assert_eq!(outputs[1].status.code(), Some(13));
        expect_success(&[outputs[0].clone(), outputs[2].clone()]);
        return;
    };
    let rank = join(number, 3);
    assert_eq!(rank.sum(1.0), Ok(3.0));
    assert_eq!(rank.sum(2.0), Ok(6.0));
    let data = rank.stream.alloc_zeros::<f32>(1).unwrap();
    let address = cudarc::driver::DevicePtr::device_ptr(&data, &rank.stream).0;
    let place = address as *mut std::ffi::c_void;
    // SAFETY: the element lives until the stream has come to it.
    let put = unsafe {
        let (of, sum) = (sys::ncclDataType_t::ncclFloat32, sys::ncclRedOp_t::ncclSum);
        let stream = rank.stream.cu_stream().cast();
        sys::ncclAllReduce(place, place, 1, of, sum, rank.comm, stream)
    };
    assert_eq!(put, Code::ncclSuccess);
    let (code, text) = rank.wait_for_error();
    assert_eq!(code, Code::ncclRemoteError);
    assert!(text.contains("rank 1 is gone"), "{text}");
    let stream = rank.stream.clone();
    rank.abort();
    stream.synchronize().unwrap();
}
