use std::ffi::c_void;

use cudarc::{driver::DevicePtr, nccl::sys};
use half::{bf16, f16};
use proptest::prelude::*;
use slimpipe_mock::nccl;

use super::ranks::{Op, Rank, Type, alone, outcome, run};

/// A type of elements: its bytes, and how much a step of a reduction may be off.
fn facts(of: Type) -> (usize, f64) {
    match of {
        Type::ncclInt8 | Type::ncclUint8 => (1, 0.0),
        Type::ncclFloat16 => (2, 1e-3),
        Type::ncclBfloat16 => (2, 8e-3),
        Type::ncclFloat32 => (4, 1e-6),
        Type::ncclInt32 | Type::ncclUint32 => (4, 0.0),
        Type::ncclInt64 | Type::ncclUint64 => (8, 0.0),
        _ => (8, 1e-15),
    }
}

fn write(of: Type, number: f64) -> Vec<u8> {
    match of {
        Type::ncclInt8 => (number as i8).to_le_bytes().to_vec(),
        Type::ncclUint8 => (number as u8).to_le_bytes().to_vec(),
        Type::ncclInt32 => (number as i32).to_le_bytes().to_vec(),
        Type::ncclUint32 => (number as u32).to_le_bytes().to_vec(),
        Type::ncclInt64 => (number as i64).to_le_bytes().to_vec(),
        Type::ncclUint64 => (number as u64).to_le_bytes().to_vec(),
        Type::ncclFloat16 => f16::from_f64(number).to_le_bytes().to_vec(),
        Type::ncclBfloat16 => bf16::from_f64(number).to_le_bytes().to_vec(),
        Type::ncclFloat32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

fn read(of: Type, bytes: &[u8]) -> f64 {
    macro_rules! read {
        ($type:ty) => {
            <$type>::from_le_bytes(bytes.try_into().unwrap())
        };
    }
    match of {
        Type::ncclInt8 => read!(i8).into(),
        Type::ncclUint8 => read!(u8).into(),
        Type::ncclInt32 => read!(i32).into(),
        Type::ncclUint32 => read!(u32).into(),
        Type::ncclInt64 => read!(i64) as f64,
        Type::ncclUint64 => read!(u64) as f64,
        Type::ncclFloat16 => read!(f16).to_f64(),
        Type::ncclBfloat16 => read!(bf16).to_f64(),
        Type::ncclFloat32 => read!(f32).into(),
        _ => read!(f64),
    }
}

#[derive(Clone, Copy, Debug)]
enum Collective {
    AllGather,
    AllReduce,
    Broadcast,
    Reduce,
    ReduceScatter,
}

/// One case: what is done with how many elements by how many ranks.
#[derive(Clone, Copy, Debug)]
struct Case {
    collective: Collective,
    ranks: usize,
    root: usize,
    count: usize,
    of: Type,
    op: Op,
    in_place: bool,
}

impl Case {
    /// Elements that a rank puts in, and gets out.
    fn counts(&self) -> (usize, usize) {
        match self.collective {
            Collective::AllGather => (self.count, self.count * self.ranks),
            Collective::ReduceScatter => (self.count * self.ranks, self.count),
            _ => (self.count, self.count),
        }
    }

    /// What a rank puts in: small numbers that every type holds, and no zeros.
    fn input(&self, rank: usize) -> Vec<f64> {
        (0..self.counts().0).map(|i| ((i * 7 + rank * 3) % 4 + 1) as f64).collect()
    }

    fn reduced(&self) -> Vec<f64> {
        let inputs: Vec<_> = (0..self.ranks).map(|rank| self.input(rank)).collect();
        let column = |i: usize| inputs.iter().map(move |input| input[i]);
        (0..self.counts().0)
            .map(|i| match self.op {
                Op::ncclProd => column(i).product(),
                Op::ncclMax => column(i).fold(f64::MIN, f64::max),
                Op::ncclMin => column(i).fold(f64::MAX, f64::min),
                Op::ncclAvg => column(i).sum::<f64>() / self.ranks as f64,
                _ => column(i).sum(),
            })
            .collect()
    }

    /// What a rank gets out; none where NCCL promises nothing.
    fn expected(&self, rank: usize) -> Option<Vec<f64>> {
        match self.collective {
            Collective::AllGather => Some((0..self.ranks).flat_map(|r| self.input(r)).collect()),
            Collective::AllReduce => Some(self.reduced()),
            Collective::Broadcast => Some(self.input(self.root)),
            Collective::Reduce => (rank == self.root).then(|| self.reduced()),
            Collective::ReduceScatter => {
                Some(self.reduced()[rank * self.count..][..self.count].to_vec())
            }
        }
    }

    fn run(&self, rank: &Rank) -> Vec<u8> {
        let (size, _) = facts(self.of);
        let (count_in, count_out) = self.counts();
        let bytes: Vec<u8> =
            self.input(rank.rank).iter().flat_map(|x| write(self.of, *x)).collect();
        let stream = &rank.stream;
        // One piece of memory for both, so that in place is a question of addresses.
        let mut memory = stream.alloc_zeros::<u8>((count_in + count_out) * size).unwrap();
        let base = memory.device_ptr(stream).0;
        let (source, target) = match self.collective {
            Collective::AllGather if self.in_place => (rank.rank * count_in * size, 0),
            Collective::ReduceScatter if self.in_place => (0, rank.rank * count_out * size),
            _ if self.in_place => (0, 0),
            _ => (0, count_in * size),
        };
        stream.memcpy_htod(&bytes, &mut memory.slice_mut(source..source + bytes.len())).unwrap();
        let from = (base + source as u64) as *const c_void;
        let to = (base + target as u64) as *mut c_void;
        let &Case { count, of, op, .. } = self;
        let (root, comm, cu) = (self.root as i32, rank.comm, stream.cu_stream().cast());
        // SAFETY: the memory lives until the stream has come to the operation.
        outcome(unsafe {
            match self.collective {
                Collective::AllGather => sys::ncclAllGather(from, to, count, of, comm, cu),
                Collective::AllReduce => sys::ncclAllReduce(from, to, count, of, op, comm, cu),
                Collective::Broadcast => sys::ncclBroadcast(from, to, count, of, root, comm, cu),
                Collective::Reduce => sys::ncclReduce(from, to, count, of, op, root, comm, cu),
                Collective::ReduceScatter => {
                    sys::ncclReduceScatter(from, to, count, of, op, comm, cu)
                }
            }
        })
        .unwrap();
        stream.clone_dtoh(&memory).unwrap()[target..target + count_out * size].to_vec()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let case = *self;
        let outputs = run(case.ranks, move |rank| case.run(rank));
        let (size, tolerance) = facts(self.of);
        for (rank, output) in outputs.iter().enumerate() {
            let Some(expected) = self.expected(rank) else { continue };
            for (i, (bytes, expected)) in output.chunks(size).zip(expected).enumerate() {
                let got = read(self.of, bytes);
                // Integers are divided without a rest.
                let expected = if tolerance == 0.0 { expected.trunc() } else { expected };
                let most = tolerance * expected.abs() * self.ranks as f64;
                prop_assert!(
                    (got - expected).abs() <= most,
                    "rank {} has {} at {}, and {} is expected",
                    rank,
                    got,
                    i,
                    expected
                );
            }
        }
        if matches!(self.collective, Collective::AllReduce) {
            prop_assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "ranks differ");
        }
        Ok(())
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let collective = prop::sample::select(vec![
        Collective::AllGather,
        Collective::AllReduce,
        Collective::Broadcast,
        Collective::Reduce,
        Collective::ReduceScatter,
    ]);
    let of = prop::sample::select(vec![
        Type::ncclInt8,
        Type::ncclUint8,
        Type::ncclInt32,
        Type::ncclUint32,
        Type::ncclInt64,
        Type::ncclUint64,
        Type::ncclFloat16,
        Type::ncclBfloat16,
        Type::ncclFloat32,
        Type::ncclFloat64,
    ]);
    let op = prop::sample::select(vec![
        Op::ncclSum,
        Op::ncclProd,
        Op::ncclMax,
        Op::ncclMin,
        Op::ncclAvg,
    ]);
    let shape = (1..=4usize, 0..4usize, 1..40usize, any::<bool>());
    (collective, of, op, shape).prop_map(|(collective, of, op, (ranks, root, count, in_place))| {
        let root = root % ranks;
        Case { collective, ranks, root, count, of, op, in_place }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn collectives_give_what_the_definition_says(case in cases(), rendezvous: bool) {
        let _alone = alone();
        nccl().set("send", if rendezvous { "rendezvous" } else { "buffered" });
        case.check()?;
    }
}
