//! What a GPU and the links around it can do, for plans and simulations.
//!
//! Figures come from TOML files, each with its source; those of H100, H800 and H200 come along. None
//! is fitted to a result.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// The files that come along, by name.
const FILES: [(&str, &str); 3] = [
    ("h100-80g", include_str!("../hardware/h100-80g.toml")),
    ("h800-80g", include_str!("../hardware/h800-80g.toml")),
    ("h200-141g", include_str!("../hardware/h200-141g.toml")),
];

/// A kind of GPU, and the machines it is built into.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Its full name.
    pub name: String,
    /// The GPU itself.
    pub gpu: Gpu,
    /// Matrix products in bf16.
    pub products: Products,
    /// Flash attention in bf16.
    pub attention: Attention,
    /// GPUs in one machine.
    pub node: Node,
    /// From machine to machine, for each GPU.
    pub network: Wire,
    /// Between a GPU and its host's memory.
    pub host: Wire,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Memory that a process can have, GiB.
    pub memory_gib: f64,
    /// Dense bf16 peak, TFLOP/s: what MFU is a share of.
    pub peak_tflops: f64,
    /// Memory bandwidth, GB/s.
    pub memory_gb_per_s: f64,
    /// The share of it that elementwise kernels reach.
    pub memory_efficiency: f64,
    /// Streaming multiprocessors: tiles of attention that run at once.
    pub processors: u32,
    /// What the driver and libraries keep for themselves, GiB.
    pub runtime_gib: f64,
}

/// How fast products are: `tflops x / (x + half)` where x is the smallest side.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Products {
    /// Of products without end, TFLOP/s.
    pub tflops: f64,
    /// The smallest side at which half of that is reached.
    pub half: f64,
}

/// How fast attention is, by the number of queries.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Numbers of queries, ascending.
    pub rows: Vec<f64>,
    /// TFLOP/s of forward at each.
    pub forward_tflops: Vec<f64>,
    /// TFLOP/s of backward at each.
    pub backward_tflops: Vec<f64>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// GPUs in it.
    pub gpus: u32,
    /// From one of its GPUs to the others, one way, GB/s.
    pub gb_per_s: f64,
    /// The share of it that large messages reach.
    pub efficiency: f64,
    /// What any message takes, microseconds.
    pub latency_us: f64,
}

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// One way, GB/s.
    pub gb_per_s: f64,
    /// The share of it that large messages reach.
    pub efficiency: f64,
    /// What any message takes, microseconds.
    pub latency_us: f64,
}

impl Hardware {
    /// The hardware of that name, or that of a TOML file at that path.
    ///
    /// # Errors
    /// Neither is there, or the file has a figure that is missing, unknown or absurd; it is named.
    pub fn open(name: &str) -> Result<Self> {
        if let Some((name, text)) = FILES.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let text = std::fs::read_to_string(Path::new(name)).map_err(|error| {
            let known = FILES.map(|(name, _)| name).join(", ");
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "there is none".to_owned(),
                _ => error.to_string(),
            };
            wrong(format!(
                "`{name}` is neither a GPU that comes along ({known}) nor the path of a TOML file: {why}"
            ))
        })?;
        Self::parse(name, &text)
    }

    /// The names of the GPUs that come along.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// Reads the text of a file; `name` is for errors.
    ///
    /// # Errors
    /// As [`Hardware::open`].
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let hardware: Self = toml::from_str(text)
            .map_err(|error| wrong(format!("{name}: {}", error.to_string().trim_end())))?;
        hardware.check().map_err(|what| wrong(format!("{name}: {what}")))?;
        Ok(hardware)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let Self { gpu, products, attention, node, network, host, .. } = self;
        let peak = gpu.peak_tflops;
        // Key, figure, the least and the most that can be meant: beyond them it is in other units.
        let figures = [
            ("gpu.memory_gib", gpu.memory_gib, 1.0, 10_000.0),
            ("gpu.peak_tflops", peak, 1.0, 100_000.0),
            ("gpu.memory_gb_per_s", gpu.memory_gb_per_s, 10.0, 1e6),
            ("gpu.memory_efficiency", gpu.memory_efficiency, 0.01, 1.0),
            ("gpu.processors", f64::from(gpu.processors), 1.0, 100_000.0),
            ("gpu.runtime_gib", gpu.runtime_gib, 0.0, gpu.memory_gib),
            ("products.tflops", products.tflops, 0.01, peak),
            ("products.half", products.half, 0.0, 1e6),
            ("node.gpus", f64::from(node.gpus), 1.0, 1024.0),
            ("node.gb_per_s", node.gb_per_s, 0.1, 1e5),
            ("node.efficiency", node.efficiency, 0.01, 1.0),
            ("node.latency_us", node.latency_us, 0.0, 1e5),
            ("network.gb_per_s", network.gb_per_s, 0.1, 1e5),
            ("network.efficiency", network.efficiency, 0.01, 1.0),
            ("network.latency_us", network.latency_us, 0.0, 1e5),
            ("host.gb_per_s", host.gb_per_s, 0.1, 1e5),
            ("host.efficiency", host.efficiency, 0.01, 1.0),
            ("host.latency_us", host.latency_us, 0.0, 1e5),
        ];
        let Attention { rows, forward_tflops, backward_tflops } = attention;
        let rates = forward_tflops.iter().map(|&rate| ("attention.forward_tflops", rate));
        let rates = rates.chain(backward_tflops.iter().map(|&r| ("attention.backward_tflops", r)));
        let rates = rates.map(|(key, rate)| (key, rate, 0.01, peak));
        for (key, figure, least, most) in figures.into_iter().chain(rates) {
            if !(least..=most).contains(&figure) {
                return Err(format!("{key} is {figure}; it must be between {least} and {most}"));
            }
        }
        let lengths = [forward_tflops.len(), backward_tflops.len()];
        if rows.is_empty() || lengths != [rows.len(); 2] {
            return Err(format!(
                "attention has {} rows, {} forward and {} backward rates; it must have one of each",
                rows.len(),
                lengths[0],
                lengths[1]
            ));
        }
        let ascends = rows.windows(2).all(|pair| pair[0] < pair[1]) && rows[0] > 0.0;
        if ascends { Ok(()) } else { Err("attention.rows must ascend from above 0".to_owned()) }
    }
}

impl Products {
    /// Seconds of `flops` FLOPs in products whose smallest side is `side`.
    pub fn seconds(&self, flops: f64, side: f64) -> f64 {
        if flops > 0.0 { flops / (self.tflops * 1e12 * side / (side + self.half)) } else { 0.0 }
    }
}

impl Attention {
    /// Seconds of `flops` FLOPs of forward on `rows` queries.
    pub fn forward_seconds(&self, flops: f64, rows: f64) -> f64 {
        flops / (1e12 * self.rate(&self.forward_tflops, rows))
    }

    /// Seconds of `flops` FLOPs of backward on `rows` queries.
    pub fn backward_seconds(&self, flops: f64, rows: f64) -> f64 {
        flops / (1e12 * self.rate(&self.backward_tflops, rows))
    }

    /// Between two rows the rate is on the line between theirs; below the first it falls with the rows,
    /// for then the GPU is not full, and beyond the last it stays.
    fn rate(&self, rates: &[f64], rows: f64) -> f64 {
        let above = self.rows.partition_point(|&known| known < rows);
        match above {
            0 => rates[0] * rows / self.rows[0],
            _ if above == rates.len() => rates[above - 1],
            _ => {
                let (low, high) = (self.rows[above - 1], self.rows[above]);
                let part = (rows - low) / (high - low);
                rates[above - 1] + part * (rates[above] - rates[above - 1])
            }
        }
    }
}

impl Gpu {
    /// Seconds to move `bytes` to or from memory.
    pub fn memory_seconds(&self, bytes: f64) -> f64 {
        bytes / (self.memory_gb_per_s * 1e9 * self.memory_efficiency)
    }
}

impl Node {
    /// The links within the machine.
    pub fn wire(&self) -> Wire {
        let Self { gb_per_s, efficiency, latency_us, .. } = *self;
        Wire { gb_per_s, efficiency, latency_us }
    }
}

impl Wire {
    /// Seconds for which `bytes` occupy the link.
    pub fn seconds(&self, bytes: f64) -> f64 {
        bytes / (self.gb_per_s * 1e9 * self.efficiency)
    }

    /// Seconds that any message takes on top.
    pub fn latency(&self) -> f64 {
        self.latency_us * 1e-6
    }
}

/// Where `--gpu` is wrong.
fn wrong(what: impl Into<String>) -> Error {
    Error::setting("--gpu", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gpu_that_comes_along_can_be_read() {
        for name in Hardware::names() {
            let hardware = Hardware::open(name).unwrap();
            let rate = 1e12 / hardware.products.seconds(1e12, 8192.0);
            assert!((rate / 795e12 - 1.0).abs() < 0.01, "{name}: {rate}");
        }
        let memory = |name| Hardware::open(name).unwrap().gpu.memory_gib;
        assert!(memory("h200-141g") > 1.7 * memory("h100-80g"));
        let link = |name| Hardware::open(name).unwrap().node.gb_per_s;
        assert_eq!(link("h800-80g") * 2.25, link("h100-80g"));
    }

    #[test]
    fn a_figure_that_is_missing_unknown_or_absurd_is_named() {
        let text = FILES[0].1;
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Hardware::parse("mine", &text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        for (from, to, told) in [
            ("peak_tflops = 989.4", "", "peak_tflops"),
            ("peak_tflops = 989.4", "peak_tflops = 989400.0", "gpu.peak_tflops is 989400"),
            ("peak_tflops = 989.4", "peak_tflop = 989.4", "peak_tflop"),
            ("memory_efficiency = 0.9", "memory_efficiency = 90.0", "gpu.memory_efficiency is 90"),
            ("memory_gib = 79.6", "memory_gib = nan", "gpu.memory_gib is NaN"),
            ("tflops = 893.0", "tflops = 1893.0", "products.tflops is 1893"),
            ("467.0, 565.0", "467.0", "one of each"),
            ("512, 1024", "1024, 512", "must ascend"),
        ] {
            let error = refused(from, to);
            assert!(error.contains(told) && error.contains("--gpu"), "{from} -> {to}: {error}");
        }
        let error = Hardware::open("h1000").unwrap_err().to_string();
        assert!(error.contains("h800-80g") && error.contains("there is none"), "{error}");
    }

    #[test]
    fn attention_is_as_fast_as_its_table_and_slower_on_fewer_rows() {
        let attention = Hardware::open("h100-80g").unwrap().attention;
        let rate = |rows| 1.0 / attention.forward_seconds(1e12, rows);
        let close = |rows: f64, expected: f64| assert!((rate(rows) - expected).abs() < 1e-9);
        close(512.0, 467.0);
        close(1536.0, 595.0);
        close(1e6, 648.0);
        close(256.0, 233.5);
        assert!(attention.backward_seconds(1.0, 4096.0) > attention.forward_seconds(1.0, 4096.0));
    }
}
