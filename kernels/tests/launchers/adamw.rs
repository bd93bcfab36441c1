use half::bf16;
use slimpipe_kernels::cpu::adamw as cpu;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::DevicePtr;
use slimpipe_kernels::cuda::adamw::{self, AdamW, Parameter};

use super::figures::FORWARD;
use super::util::{assert_close, assert_figure, f64s, gpu, random};

/// Lengths of many parameters: more than one launch takes, some of several blocks, some not whole packs.
fn lens() -> Vec<usize> {
    let mut lens = vec![0, 1, 3, 20_000, 16_384, 77];
    lens.extend((0..70).map(|i| 1 + i * 7 % 31));
    lens
}

/// The weights after a step, in f64.
fn reference(
    settings: AdamW,
    decay: f32,
    scale: f32,
    [weight, grad, m, v]: [&Vec<f32>; 4],
) -> Vec<f64> {
    let AdamW { lr, beta1, beta2, eps, step, .. } = settings;
    let [lr, beta1, beta2, eps, decay, scale] =
        [lr, beta1, beta2, eps, decay, scale].map(f64::from);
    let unbias = |beta: f64| 1.0 - beta.powi(step as i32);
    let step = |(((w, g), m), v): (((f64, f64), f64), f64)| {
        let g = g * scale;
        let (m, v) = (beta1 * m + (1.0 - beta1) * g, beta2 * v + (1.0 - beta2) * g * g);
        let size = (v / unbias(beta2)).sqrt() + eps;
        w * (1.0 - lr * decay) - lr * m / unbias(beta1) / size
    };
    f64s(weight).into_iter().zip(f64s(grad)).zip(f64s(m)).zip(f64s(v)).map(step).collect()
}

#[test]
fn many_parameters_take_steps_of_the_cpus_bits() {
    let Some(gpu) = gpu() else { return };
    let lens = lens();
    let draw = |seed: u64| -> Vec<Vec<f32>> {
        lens.iter().enumerate().map(|(i, &len)| random(seed + i as u64, len)).collect()
    };
    let (weights, grads, m) = (draw(1000), draw(2000), draw(3000));
    let squares = |v: Vec<f32>| v.into_iter().map(|v| v * v).collect();
    let v: Vec<Vec<f32>> = draw(4000).into_iter().map(squares).collect();
    let settings =
        AdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 3 };
    let (scale, clip) = (0.5f32, 0.3f32);
    let has_low = |i: usize| i % 3 != 1;
    let decay = |i: usize| if i.is_multiple_of(2) { 0.1 } else { 0.0 };
    let stepped = gpu.schedules(|| {
        let factor = gpu.with(&[clip]);
        let buffers: Vec<_> = (0..lens.len())
            .map(|i| {
                let [w, g, m, v] =
                    [&weights, &grads, &m, &v].map(|all| gpu.with_at(i % 2, &all[i]));
                (w, g, m, v, gpu.empty::<bf16>(lens[i]))
            })
            .collect();
        let parameters = buffers.iter().enumerate().map(|(i, (w, g, m, v, low))| Parameter {
            weight: w.at,
            model_weight: if has_low(i) { low.at } else { DevicePtr::NULL },
            grad: g.at,
            m: m.at,
            v: v.at,
            len: lens[i],
            weight_decay: decay(i),
        });
        let parameters: Vec<_> = parameters.collect();
        // SAFETY: the buffers hold all that is read and written.
        unsafe { adamw::step(&gpu.stream, settings, &parameters, scale, factor.at) }.unwrap();
        let read = |i: usize| {
            let (w, _, m, v, low) = &buffers[i];
            (gpu.read(w), gpu.read(m), gpu.read(v), has_low(i).then(|| gpu.read(low)))
        };
        (0..lens.len()).map(read).collect::<Vec<_>>()
    });
    for (i, (w, own_m, own_v, low)) in stepped.into_iter().enumerate() {
        let exact =
            reference(settings, decay(i), scale * clip, [&weights[i], &grads[i], &m[i], &v[i]]);
        assert_close("weights", &w, &exact, 1e-6);
        if let Some(low) = &low {
            assert_figure::<bf16>("AdamW's weights", low, &exact, FORWARD);
        }
        let (mut weight, mut m, mut v) = (weights[i].clone(), m[i].clone(), v[i].clone());
        let mut rounded = vec![bf16::default(); lens[i]];
        let settings = AdamW { weight_decay: decay(i), ..settings };
        let (threads, low_weight) = (Threads::default(), Some(&mut rounded[..]));
        let (grad, scale) = (&grads[i], scale * clip);
        cpu::step(&threads, settings, &mut weight, low_weight, grad, scale, &mut m, &mut v);
        assert_eq!((w, own_m, own_v), (weight, m, v), "parameter {i}");
        assert!(low.is_none_or(|low| low == rounded), "rounded parameter {i}");
    }
}
