//! Bulk copies, of plain bytes and of boxes of tensors.

use crate::common::{Buffers, POLICIES, launch_raw, store, text_with_maps, wait};
use proptest::prelude::*;
use slimpipe_emulator::{Element, Fill, Policy, Swizzle, TensorMap};

/// Makes an mbarrier in `%r0` for one arrival; shared memory for data begins at `%r1`.
const SETUP: &str = "
    .shared .align 8 .b64 bar; mov.u32 %r0, bar; mov.u32 %r1, smem; add.u32 %r1, %r1, 1023; and.b32 %r1, %r1, -1024;
    setp.ne.u32 %p0, %t0, 0; @%p0 bra READY; mbarrier.init.shared::cta.b64 [%r0], 1;
    fence.mbarrier_init.release.cluster; READY: bar.sync 0;
";

fn random_bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

#[test]
fn plain_bytes_go_there_and_back() {
    let body = format!(
        "{SETUP} ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; setp.ne.u32 %p0, %t0, 0; @%p0 bra WAIT;
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], 512;
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 512, [%r0];
         WAIT: {}
         shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1; ld.shared.u32 %r3, [%r2]; add.u32 %r3, %r3, %t0; st.shared.u32 [%r2], %r3;
         fence.proxy.async.shared::cta; bar.sync 0; @%p0 bra END;
         cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 512;
         cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;
         END: ret;",
        wait("%r0", "0", "SPIN")
    );
    let text = text_with_maps(0, 2, &body);
    let source: Vec<u8> = (0..128u32).flat_map(|i| (i * 1000).to_le_bytes()).collect();
    for policy in POLICIES {
        let buffers = Buffers::new(&[source.clone(), vec![0; 512]]);
        let sizes = ([1; 3], [128, 1, 1]);
        let report =
            launch_raw(&text, sizes, None, 2048, &buffers.params(), &buffers.memory, policy)
                .unwrap();
        assert_eq!(report.bulk_bytes, 1024);
        let expected: Vec<u32> = (0..128).map(|i| i * 1001).collect();
        assert_eq!(buffers.words(1), expected, "{policy:?}");
    }
}

#[test]
fn sums_are_formed_in_global_memory() {
    // Each of four blocks adds 1.5 and its number to 64 floats.
    let body = format!(
        "{SETUP} ld.param.u64 %d0, [p0]; mov.u32 %r4, %ctaid.x; cvt.rn.f32.u32 %f0, %r4; add.f32 %f0, %f0, 0f3FC00000;
         shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1; st.shared.f32 [%r2], %f0; fence.proxy.async.shared::cta; bar.sync 0;
         @%p0 bra END; cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%d0], [%r1], 256;
         cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; END: ret;"
    );
    let text = text_with_maps(0, 1, &body);
    for policy in POLICIES {
        let buffers = Buffers::new(&[vec![0; 256]]);
        launch_raw(
            &text,
            ([4, 1, 1], [64, 1, 1]),
            None,
            2048,
            &buffers.params(),
            &buffers.memory,
            policy,
        )
        .unwrap();
        assert_eq!(buffers.words(0), vec![12f32.to_bits(); 64], "{policy:?}");
    }
}

/// A tensor in memory and the map of it.
#[derive(Debug, Clone)]
struct Case {
    map: TensorMap,
    at: Vec<i32>,
}

fn cases() -> impl Strategy<Value = Case> {
    let swizzles =
        prop::sample::select(vec![Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128]);
    let elements =
        prop::sample::select(vec![Element::Bf16, Element::F32, Element::U8, Element::F16]);
    (1usize..=5, swizzles, elements, any::<bool>()).prop_flat_map(
        |(rank, swizzle, element, nan)| {
            let row = swizzle
                .row_bytes()
                .map_or(prop_oneof![Just(16), Just(48), Just(128)].boxed(), |b| Just(b).boxed());
            let sizes = prop::collection::vec(1u64..12, rank);
            let boxes = prop::collection::vec(1u32..5, rank);
            let at = prop::collection::vec(-4i32..14, rank);
            (row, sizes, boxes, at, 1u64..80).prop_map(
                move |(row, mut sizes, mut box_sizes, at, width)| {
                    sizes[0] = width;
                    box_sizes[0] = (row / element.bytes()) as u32;
                    let mut stride = (width * element.bytes() as u64).next_multiple_of(16) + 16;
                    let mut strides = Vec::new();
                    for axis in 1..rank {
                        strides.push(stride);
                        stride *= sizes[axis] + 1;
                    }
                    let fill = if nan && element != Element::U8 { Fill::Nan } else { Fill::Zero };
                    Case {
                        map: TensorMap {
                            element,
                            address: 0,
                            sizes,
                            strides,
                            box_sizes,
                            swizzle,
                            fill,
                        },
                        at,
                    }
                },
            )
        },
    )
}

/// Offsets of a box's elements in the tensor, in order, or nothing if outside.
fn elements(case: &Case) -> Vec<Option<usize>> {
    let map = &case.map;
    let total: usize = map.box_sizes.iter().map(|&b| b as usize).product();
    (0..total)
        .map(|mut number| {
            let mut offset = 0;
            for axis in 0..map.rank() {
                let size = map.box_sizes[axis] as usize;
                let place = i64::from(case.at[axis]) + (number % size) as i64;
                number /= size;
                if place < 0 || place >= map.sizes[axis] as i64 {
                    return None;
                }
                let stride =
                    if axis == 0 { map.element.bytes() as u64 } else { map.strides[axis - 1] };
                offset += place as usize * stride as usize;
            }
            Some(offset)
        })
        .collect()
}

/// Where byte `offset` of a box lies, as the tables of the manual show it.
fn swizzled(swizzle: Swizzle, offset: usize) -> usize {
    let (row, chunk, rest) = (offset / 128, offset / 16 % 8, offset % 16);
    let chunk = match swizzle {
        Swizzle::None => chunk,
        Swizzle::B32 => chunk ^ (row & 1),
        Swizzle::B64 => chunk ^ (row & 3),
        Swizzle::B128 => chunk ^ (row & 7),
    };
    row * 128 + chunk * 16 + rest
}

fn coordinates(case: &Case) -> (String, usize) {
    let at: Vec<_> = case.at.iter().map(i32::to_string).collect();
    (format!("{{{}}}", at.join(", ")), case.at.len())
}

fn tensor_bytes(map: &TensorMap) -> usize {
    let last = map.rank() - 1;
    match last {
        0 => map.sizes[0] as usize * map.element.bytes(),
        _ => (map.sizes[last] * map.strides[last - 1]) as usize,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn a_box_is_loaded_with_its_swizzle_and_fill(mut case in cases(), seed in any::<u64>()) {
        let bytes = case.map.box_bytes();
        let (at, rank) = coordinates(&case);
        let body = format!(
            "{SETUP} @%p0 bra WAIT; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0], {bytes};
             mov.b64 %d2, m0; cvta.param.u64 %d2, %d2;
             cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d2, {at}], [%r0];
             WAIT: {} ld.param.u64 %d0, [p0]; mov.u32 %r2, %t0;
             COPY: setp.ge.u32 %p1, %r2, {bytes}; @%p1 bra END; add.u32 %r3, %r1, %r2; ld.shared.u8 %r4, [%r3];
             cvt.u64.u32 %d1, %r2; add.s64 %d1, %d0, %d1; st.global.u8 [%d1], %r4; add.u32 %r2, %r2, 64; bra COPY; END: ret;",
            wait("%r0", "0", "SPIN")
        );
        let text = text_with_maps(1, 1, &body);
        let tensor = random_bytes(tensor_bytes(&case.map), seed);
        let expected: Vec<u8> = elements(&case).iter().flat_map(|offset| {
            let n = case.map.element.bytes();
            match (offset, case.map.fill, case.map.element) {
                (Some(o), ..) => tensor[*o..o + n].to_vec(),
                (None, Fill::Zero, _) => vec![0; n],
                (None, Fill::Nan, Element::F32) => vec![0xFF, 0xFF, 0xFF, 0x7F],
                (None, Fill::Nan, _) => vec![0xFF, 0x7F],
            }
        }).collect();
        for policy in [Policy::Eager, Policy::Random { seed }, Policy::Latest { seed }] {
            let buffers = Buffers::new(&[vec![0; bytes.next_multiple_of(128)], tensor.clone()]);
            case.map.address = buffers.addresses[1];
            let mut params = case.map.encode().unwrap().to_vec();
            params.extend(buffers.addresses[0].to_le_bytes());
            launch_raw(&text, ([1; 3], [64, 1, 1]), None, bytes as u32 + 2048, &params, &buffers.memory, policy)
                .map_err(|f| TestCaseError::fail(f.to_string()))?;
            let loaded = buffers.bytes(0);
            for (i, &byte) in expected.iter().enumerate() {
                prop_assert_eq!(loaded[swizzled(case.map.swizzle, i)], byte, "byte {} of {:?}", i, case);
            }
        }
    }

    #[test]
    fn a_box_is_stored_within_the_tensor_only(mut case in cases(), seed in any::<u64>()) {
        let bytes = case.map.box_bytes();
        let (at, rank) = coordinates(&case);
        let body = format!(
            "{SETUP} ld.param.u64 %d0, [p0]; mov.u32 %r2, %t0;
             FILL: setp.ge.u32 %p1, %r2, {bytes}; @%p1 bra FULL; add.u32 %r3, %r1, %r2; cvt.u64.u32 %d1, %r2; add.s64 %d1, %d0, %d1;
             ld.global.u8 %r4, [%d1]; st.shared.u8 [%r3], %r4; add.u32 %r2, %r2, 64; bra FILL;
             FULL: fence.proxy.async; bar.sync 0; @%p0 bra END; mov.b64 %d2, m0; cvta.param.u64 %d2, %d2;
             cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group [%d2, {at}], [%r1];
             cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; END: ret;"
        );
        let text = text_with_maps(1, 1, &body);
        let (tile, tensor) = (random_bytes(bytes, seed), random_bytes(tensor_bytes(&case.map), !seed));
        // The box as it lies in shared memory.
        let mut shared = vec![0; bytes.next_multiple_of(128)];
        for i in 0..bytes {
            let at = swizzled(case.map.swizzle, i);
            if at < bytes { shared[at] = tile[i]; }
        }
        let complete = (0..bytes).all(|i| swizzled(case.map.swizzle, i) < bytes);
        prop_assume!(complete);
        let mut expected = tensor.clone();
        for (i, offset) in elements(&case).iter().enumerate() {
            let n = case.map.element.bytes();
            if let Some(o) = offset {
                expected[*o..o + n].copy_from_slice(&tile[i * n..(i + 1) * n]);
            }
        }
        for policy in [Policy::Eager, Policy::Random { seed }, Policy::Latest { seed }] {
            let buffers = Buffers::new(&[shared[..bytes].to_vec(), tensor.clone()]);
            case.map.address = buffers.addresses[1];
            let mut params = case.map.encode().unwrap().to_vec();
            params.extend(buffers.addresses[0].to_le_bytes());
            launch_raw(&text, ([1; 3], [64, 1, 1]), None, bytes as u32 + 2048, &params, &buffers.memory, policy)
                .map_err(|f| TestCaseError::fail(f.to_string()))?;
            prop_assert_eq!(buffers.bytes(1), expected.clone());
        }
    }

    #[test]
    fn encoded_maps_decode_to_themselves(case in cases()) {
        let bytes = case.map.encode().unwrap();
        prop_assert_eq!(TensorMap::decode(&bytes), Some(case.map));
    }
}

#[test]
fn boxes_are_added_to_a_tensor() {
    let body = format!(
        "{SETUP} shl.b32 %r2, %t0, 2; add.u32 %r2, %r2, %r1; st.shared.f32 [%r2], 0f40000000; fence.proxy.async.shared::cta; bar.sync 0;
         @%p0 bra END; mov.b64 %d2, m0; cvta.param.u64 %d2, %d2;
         cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%d2, {{4, 6}}], [%r1];
         cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; END: ret;"
    );
    let text = text_with_maps(1, 0, &body);
    let ones: Vec<u8> = (0..64).flat_map(|_| 1f32.to_le_bytes()).collect();
    for policy in POLICIES {
        let buffers = Buffers::new(std::slice::from_ref(&ones));
        let map = TensorMap {
            element: Element::F32,
            address: buffers.addresses[0],
            sizes: vec![8, 8],
            strides: vec![32],
            box_sizes: vec![8, 4],
            swizzle: Swizzle::None,
            fill: Fill::Zero,
        };
        launch_raw(
            &text,
            ([2, 1, 1], [32, 1, 1]),
            None,
            2048,
            &map.encode().unwrap(),
            &buffers.memory,
            policy,
        )
        .unwrap();
        for (i, &value) in buffers.words(0).iter().enumerate() {
            let inside = i % 8 >= 4 && i / 8 >= 6;
            assert_eq!(f32::from_bits(value), if inside { 5.0 } else { 1.0 });
        }
    }
}

#[test]
fn maps_the_driver_would_refuse_are_refused() {
    let good = TensorMap {
        element: Element::Bf16,
        address: 0x1000,
        sizes: vec![64, 64],
        strides: vec![128],
        box_sizes: vec![64, 16],
        swizzle: Swizzle::B128,
        fill: Fill::Zero,
    };
    assert!(good.encode().is_ok());
    let bad = [
        TensorMap { address: 0x1008, ..good.clone() },
        TensorMap { strides: vec![136], ..good.clone() },
        TensorMap { strides: vec![], ..good.clone() },
        TensorMap { sizes: vec![0, 64], ..good.clone() },
        TensorMap { box_sizes: vec![64, 257], ..good.clone() },
        TensorMap { box_sizes: vec![128, 16], ..good.clone() },
        TensorMap { element: Element::U16, fill: Fill::Nan, ..good.clone() },
        TensorMap { box_sizes: vec![4, 16], swizzle: Swizzle::None, ..good.clone() },
    ];
    for map in bad {
        assert!(map.encode().is_err(), "{map:?}");
    }
}

#[test]
fn threads_copy_for_themselves() {
    // Two groups of cp.async; the second is still under way when the first is used.
    let body = format!(
        "mov.u32 %r1, smem; ld.param.u64 %d0, [p0]; mul.wide.u32 %d1, %t0, 16; add.s64 %d0, %d0, %d1; shl.b32 %r2, %t0, 4; add.u32 %r2, %r2, %r1;
         cp.async.cg.shared.global [%r2], [%d0], 16; cp.async.commit_group;
         add.s64 %d2, %d0, 512; add.u32 %r3, %r2, 512; cp.async.ca.shared.global [%r3], [%d2], 8, 4; cp.async.commit_group;
         cp.async.wait_group 1; ld.shared.u32 %r4, [%r2+12]; cp.async.wait_all; ld.shared.v2.u32 {{%r5, %r6}}, [%r3];
         add.u32 %r4, %r4, %r5; add.u32 %r4, %r4, %r6; {} ret;",
        store("%r4").replace("p0", "p1")
    );
    let text = text_with_maps(0, 2, &body);
    let source: Vec<u8> = (0..256u32).flat_map(|i| i.to_le_bytes()).collect();
    for policy in POLICIES {
        let buffers = Buffers::new(&[source.clone(), vec![0; 128]]);
        launch_raw(
            &text,
            ([1; 3], [32, 1, 1]),
            None,
            2048,
            &buffers.params(),
            &buffers.memory,
            policy,
        )
        .unwrap();
        // Word 3 of the first, word 0 of the second, and zeros beyond what is read.
        let expected: Vec<u32> = (0..32).map(|t| t * 4 + 3 + 128 + t * 4).collect();
        assert_eq!(buffers.words(1), expected, "{policy:?}");
    }
}
