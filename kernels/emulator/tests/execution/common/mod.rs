//! Small kernels for tests: PTX texts, parameters, buffers.

mod lanes;

pub use lanes::evaluate;
use slimpipe_emulator::{Fault, Launch, Memory, Module, Policy, Report};

/// A module with one kernel `k` whose parameters are `count` addresses `p0`, `p1`, ...
pub fn text(count: usize, body: &str) -> String {
    let params: Vec<_> = (0..count).map(|i| format!(".param .u64 p{i}")).collect();
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k({})\n{{\n{body}\n}}\n",
        params.join(", ")
    )
}

/// Registers that test bodies use, and `%t0` = the thread's number.
pub const REGISTERS: &str = "
    .reg .pred %p<16>;
    .reg .b16 %h<16>;
    .reg .b32 %r<64>;
    .reg .f32 %f<64>;
    .reg .b64 %d<32>;
    .reg .b32 %t0;
    .reg .b64 %t1;
    mov.u32 %t0, %tid.x;
";

/// The policies every test of concurrency runs under.
pub const POLICIES: [Policy; 5] = [
    Policy::Eager,
    Policy::Random { seed: 1 },
    Policy::Random { seed: 2 },
    Policy::Latest { seed: 3 },
    Policy::Latest { seed: 4 },
];

/// Buffers of a launch, in the order of the parameters.
pub struct Buffers {
    pub memory: Memory,
    pub addresses: Vec<u64>,
    sizes: Vec<usize>,
}

impl Buffers {
    pub fn new(contents: &[Vec<u8>]) -> Self {
        let memory = Memory::new();
        let addresses: Vec<u64> = contents.iter().map(|c| memory.allocate(c.len())).collect();
        for (&address, bytes) in addresses.iter().zip(contents) {
            memory.write(address, bytes).unwrap();
        }
        Self { memory, addresses, sizes: contents.iter().map(Vec::len).collect() }
    }

    pub fn bytes(&self, number: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.sizes[number]];
        self.memory.read(self.addresses[number], &mut bytes).unwrap();
        bytes
    }

    pub fn words(&self, number: usize) -> Vec<u32> {
        let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
        self.bytes(number).chunks_exact(4).map(word).collect()
    }

    pub fn params(&self) -> Vec<u8> {
        self.addresses.iter().flat_map(|a| a.to_le_bytes()).collect()
    }
}

/// Parses and runs a kernel `k` on buffers.
pub fn launch(
    text: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    buffers: &Buffers,
    policy: Policy,
) -> Result<Report, Box<Fault>> {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let kernel = module.kernel("k").unwrap();
    let params = buffers.params();
    Launch { shared, policy, ..Launch::new(&kernel, grid, block, &params) }.run(&buffers.memory)
}

/// Runs one block of `threads` on one buffer of `words` words; gives the buffer.
pub fn block(
    body: &str,
    threads: u32,
    words: usize,
    policy: Policy,
) -> Result<Vec<u32>, Box<Fault>> {
    let buffers = Buffers::new(&[vec![0; words * 4]]);
    let text = text(1, &format!("{REGISTERS}{body}"));
    launch(&text, [1, 1, 1], [threads, 1, 1], 0, &buffers, policy)?;
    Ok(buffers.words(0))
}

/// Stores `value` to word `%tid.x` of the first buffer.
pub fn store(value: &str) -> String {
    format!(
        "ld.param.u64 %d30, [p0]; mul.wide.u32 %d31, %t0, 4; add.s64 %d30, %d30, %d31;
         st.global.u32 [%d30], {value};\n"
    )
}

/// A kernel `k` with tensor maps `m0`, `m1`, ... before its addresses `p0`, `p1`, ...
pub fn text_with_maps(maps: usize, addresses: usize, body: &str) -> String {
    let maps = (0..maps).map(|i| format!(".param .align 64 .b8 m{i}[128]"));
    let addresses = (0..addresses).map(|i| format!(".param .u64 p{i}"));
    let params: Vec<_> = maps.chain(addresses).collect();
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 smem[];\n\
         .visible .entry k({})\n{{\n{REGISTERS}\n{body}\n}}\n",
        params.join(", ")
    )
}

/// Runs a kernel `k` with parameters of the caller's.
pub fn launch_raw(
    text: &str,
    sizes: ([u32; 3], [u32; 3]),
    cluster: Option<[u32; 3]>,
    shared: u32,
    params: &[u8],
    memory: &Memory,
    policy: Policy,
) -> Result<Report, Box<Fault>> {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let kernel = module.kernel("k").unwrap();
    let launch = Launch::new(&kernel, sizes.0, sizes.1, params);
    Launch { shared, policy, cluster, ..launch }.run(memory)
}

/// Spins until the phase of that parity of the mbarrier in `bar` is over.
pub fn wait(bar: &str, parity: &str, label: &str) -> String {
    format!(
        "{label}: mbarrier.try_wait.parity.shared::cta.b64 %p15, [{bar}], {parity}; @!%p15 bra {label};\n"
    )
}
