//! The executor's communicator on NCCL: messages that overlap, and collectives of host and GPU.

use std::time::Duration;

use slimpipe_kernels::cuda::{Event, PooledEvent, Stream};
use slimpipe_pipeline::comm::nccl::{NcclComm, launch};
use slimpipe_pipeline::comm::{
    Bytes, BytesMut, CommError, Communicator, DeviceBytes, DeviceRoom, Lane, Payload, Reduction,
    Route, Tag, pieces, share,
};
use slimpipe_pipeline::schedule::Unit;
use slimpipe_runtime::stream::Streams;
use slimpipe_runtime::{Device, RawTensor};

use crate::ranks::mocks;

const TIMEOUT: Duration = Duration::from_secs(60);
const RANKS: u32 = 4;

/// A tensor that is sent.
struct Message {
    tensor: RawTensor,
    stream: Stream,
    ready: PooledEvent,
}

impl Message {
    fn new(values: &[f32], streams: &Streams) -> Box<Self> {
        let tensor = tensor(values);
        let (stream, ready) = (streams.compute().clone(), mark(streams));
        Box::new(Self { tensor, stream, ready })
    }
}

impl Payload for Message {
    fn bytes(&self) -> Result<Bytes<'_>, String> {
        Ok(Bytes::Device(DeviceBytes {
            at: self.tensor.device_ptr("send").unwrap(),
            len: self.tensor.bytes(),
            stream: &self.stream,
            ready: &self.ready,
        }))
    }
}

fn mark(streams: &Streams) -> PooledEvent {
    let mark = Event::pooled(streams.context()).unwrap();
    streams.compute().record(&mark).unwrap();
    mark
}

fn tensor(values: &[f32]) -> RawTensor {
    RawTensor::from_slice(values, values.len(), Device::Cuda(0)).unwrap()
}

fn room(into: &mut RawTensor, streams: &Streams) -> BytesMut<'static> {
    let (at, len) = (into.device_ptr_mut("receive").unwrap(), into.bytes());
    BytesMut::Device(DeviceRoom { at, len, stream: streams.compute().clone() })
}

/// Runs `body` on four ranks that share the mock's GPU.
fn on_ranks(body: impl Fn(&mut NcclComm, &Streams) -> Result<(), CommError> + Sync) {
    let all = launch(&[0; RANKS as usize], 2, TIMEOUT, |mut comm| -> Result<(), CommError> {
        let streams = Streams::new(0).unwrap();
        let _entered = streams.enter();
        body(&mut comm, &streams)?;
        comm.finish()
    });
    assert_eq!(all, Ok(vec![(); RANKS as usize]));
}

fn value(rank: u32, index: usize) -> f32 {
    (rank as usize * 100 + index) as f32
}

fn values(rank: u32, len: usize) -> Vec<f32> {
    (0..len).map(|index| value(rank, index)).collect()
}

/// The settings under which everything is tried.
const TIMINGS: [(&str, &str, bool); 3] =
    [("buffered", "eager", false), ("rendezvous", "eager", true), ("rendezvous", "late:1", true)];

fn under_all_timings(run: impl Fn()) {
    let _mocks = mocks();
    for (send, order, deferred) in TIMINGS {
        slimpipe_mock::nccl().set("send", send);
        slimpipe_mock::nccl().set("deferred", deferred);
        slimpipe_mock::driver().set("order", order);
        run();
    }
}

/// Activations around the ring and gradients back, more of them than a lane holds, each rank sending all before
/// it receives any: as long as nothing on the host or in another lane is waited for, all arrive. Gradients are
/// of other slices than the activations, which those of the same would answer.
#[test]
fn lanes_do_not_wait_for_each_other_and_sends_do_not_wait_for_their_receives() {
    under_all_timings(|| {
        on_ranks(|comm, streams| {
            let own = comm.rank();
            let (next, before) = ((own + 1) % RANKS, (own + RANKS - 1) % RANKS);
            let route = |from, to, lane| Route { from, to, lane };
            let routes = (0..RANKS).flat_map(|from| {
                let to = (from + 1) % RANKS;
                [route(from, to, Lane::Activations), route(to, from, Lane::Gradients)]
            });
            comm.open(routes.collect())?;
            let unit = |slice| Unit { microbatch: 0, slice, chunk: 0 };
            for round in 0..3 {
                for slice in 0..2 {
                    let message = |to| Message::new(&values(own + to, 8), streams);
                    comm.send(next, Tag::Activation(unit(slice)), message(round))?;
                    comm.send(before, Tag::Gradient(unit(slice + 2)), message(round + 10))?;
                }
                for slice in 0..2 {
                    let mut into = tensor(&[0.0; 8]);
                    comm.recv(next, Tag::Gradient(unit(slice + 2)), room(&mut into, streams))?;
                    assert_eq!(into.to_vec::<f32>().unwrap(), values(next + round + 10, 8));
                    let mut into = tensor(&[0.0; 8]);
                    comm.recv(before, Tag::Activation(unit(slice)), room(&mut into, streams))?;
                    assert_eq!(into.to_vec::<f32>().unwrap(), values(before + round, 8));
                }
            }
            comm.barrier()
        });
    });
}

#[test]
fn messages_and_sums_take_nothing_from_the_driver_and_wait_for_no_device() {
    let _mocks = mocks();
    on_ranks(|comm, streams| {
        let own = comm.rank();
        let peer = own ^ 1;
        let routes = (0..RANKS).map(|from| Route { from, to: from ^ 1, lane: Lane::Keys });
        comm.open(routes.collect())?;
        let tag = |layer| Tag::Attention {
            unit: Unit { microbatch: 0, slice: 0, chunk: 0 },
            layer,
            tensor: slimpipe_pipeline::comm::AttentionTensor::Keys(0),
        };
        let mut into = tensor(&[0.0; 8]);
        let mut step = |layer| {
            comm.send(peer, tag(layer), Message::new(&[1.0; 8], streams))?;
            comm.recv(peer, tag(layer), room(&mut into, streams))?;
            comm.all_reduce_sum_f64(&mut [1.0])
        };
        (0..8).try_for_each(&mut step)?;
        let before = slimpipe_mock::driver().counters();
        (8..40).try_for_each(&mut step)?;
        let since = slimpipe_mock::driver().counters().since(&before);
        assert_eq!((since.synchronisations(), since.allocations()), (0, 0), "{since}");
        comm.barrier()
    });
}

#[test]
fn the_hosts_numbers_and_bytes_go_through_a_buffer() {
    under_all_timings(|| {
        on_ranks(|comm, _| {
            let own = comm.rank();
            let mut sums = [0.1 * f64::from(own), 1.0];
            comm.all_reduce_sum_f64(&mut sums)?;
            assert_eq!(sums, [0.0 + 0.1 + 0.1 * 2.0 + 0.1 * 3.0, 4.0], "in rank order");
            // More than the buffer holds, and nothing at all.
            for len in [5_000_000, 3, 0] {
                let own_bytes = vec![own as u8; len * own as usize];
                let all = comm.gather(own_bytes)?;
                assert_eq!(all.is_some(), own == 0);
                for (rank, bytes) in (0..).zip(all.into_iter().flatten()) {
                    assert_eq!(bytes.len(), len * rank as usize);
                    assert!(bytes.iter().all(|&byte| byte == rank as u8));
                }
            }
            let peer = own ^ 1;
            let mut theirs = [0f32; 3];
            let bytes = Box::new(bytemuck::cast_slice::<f32, u8>(&values(own, 3)).to_vec());
            comm.swap(peer, Tag::Block(0), bytes, theirs.as_mut_slice().into())?;
            assert_eq!(theirs[..], values(peer, 3)[..]);
            match own {
                2 => comm.send(3, Tag::Block(1), Box::new(vec![7; 3_000_000]))?,
                3 => {
                    let mut bytes = vec![0; 3_000_000];
                    comm.recv(2, Tag::Block(1), (&mut bytes).into())?;
                    assert!(bytes.iter().all(|&byte| byte == 7));
                }
                _ => {}
            }
            let mut half = comm.split(own % 2, RANKS - own)?;
            assert_eq!((half.size(), half.rank()), (2, u32::from(own < 2)));
            let mut sum = [f64::from(own)];
            half.all_reduce_sum_f64(&mut sum)?;
            assert_eq!(sum, [f64::from(2 + 2 * (own % 2))]);
            half.finish()
        });
    });
}

#[test]
fn collectives_on_a_gpus_memory_give_what_those_on_the_hosts_do() {
    under_all_timings(|| {
        on_ranks(|comm, streams| {
            let own = comm.rank();
            let sum = |index| (0..RANKS).map(|rank| value(rank, index)).sum::<f32>();
            let lens = [5, 0, 11];
            let total: usize = lens.iter().sum();
            let all = values(own, total);
            let mut slices: Vec<RawTensor> = Vec::new();
            for (part, len) in lens.into_iter().enumerate() {
                let start: usize = lens[..part].iter().sum();
                slices.push(tensor(&all[start..start + len]));
            }
            let mut parts: Vec<_> = slices.iter_mut().map(|part| room(part, streams)).collect();
            comm.reduce_scatter_f32(Reduction::Sum, &mut parts)?;
            let read = |slices: &[RawTensor]| -> Vec<Vec<f32>> {
                slices.iter().map(|slice| slice.to_vec().unwrap()).collect()
            };
            let (reduced, range) = (read(&slices), share(total, RANKS, own));
            let found =
                pieces(lens, range.clone()).flat_map(|(part, range)| reduced[part][range].to_vec());
            assert_eq!(found.collect::<Vec<_>>(), range.map(sum).collect::<Vec<_>>());
            let mut parts: Vec<_> = slices.iter_mut().map(|part| room(part, streams)).collect();
            comm.all_gather(4, &mut parts)?;
            assert_eq!(read(&slices).concat(), (0..total).map(sum).collect::<Vec<_>>());
            let mut x = tensor(&all);
            comm.reduce_f32(2, Reduction::Sum, room(&mut x, streams))?;
            if own == 2 {
                assert_eq!(x.to_vec::<f32>().unwrap(), (0..total).map(sum).collect::<Vec<_>>());
            }
            let mut x = tensor(&all);
            comm.broadcast(1, room(&mut x, streams))?;
            assert_eq!(x.to_vec::<f32>().unwrap(), values(1, total));
            let mut theirs = tensor(&[0.0; 3]);
            let message = Message::new(&values(own, 3), streams);
            comm.swap(own ^ 1, Tag::Block(0), message, room(&mut theirs, streams))?;
            assert_eq!(theirs.to_vec::<f32>().unwrap(), values(own ^ 1, 3));
            Ok(())
        });
    });
}

#[test]
fn what_is_not_opened_or_lies_in_the_wrong_place_is_refused() {
    let _mocks = mocks();
    on_ranks(|comm, streams| {
        let (peer, unit) = (comm.rank() ^ 1, Unit { microbatch: 0, slice: 0, chunk: 0 });
        let tag = Tag::Activation(unit);
        let closed = comm.send(peer, tag, Message::new(&[0.0], streams)).unwrap_err();
        assert!(matches!(closed, CommError::NoRoute { lane: Lane::Activations, .. }), "{closed}");
        let hosts = comm.send(peer, tag, Box::new(vec![0])).unwrap_err().to_string();
        assert!(hosts.contains("lies on the host"), "{hosts}");
        let hosts = comm.broadcast(0, (&mut [0u8; 4]).into()).unwrap_err().to_string();
        assert!(hosts.contains("NCCL takes a GPU's"), "{hosts}");
        assert!(matches!(comm.barrier(), Ok(())));
        Ok(())
    });
}

#[test]
fn a_rank_that_fails_or_panics_ends_all_threads_and_is_the_one_that_is_told_of() {
    let _mocks = mocks();
    for panics in [false, true] {
        let all = launch(&[0; 3], 2, TIMEOUT, |mut comm| -> Result<(), CommError> {
            comm.barrier()?;
            if comm.rank() == 1 {
                if panics {
                    // Not by the hook, which takes its time to print where it was.
                    std::panic::resume_unwind(Box::new("out of luck"));
                }
                return Err(CommError::Spawn { rank: 1, reason: "out of luck".to_owned() });
            }
            loop {
                comm.barrier()?;
            }
        });
        let text = all.unwrap_err().to_string();
        assert!(text.contains("rank 1") && text.contains("out of luck"), "{text}");
    }
}
