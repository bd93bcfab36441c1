//! Executes sm_90a PTX on the CPU, with checks a GPU does not make.
//!
//! ```
//! use slimpipe_emulator::{Launch, Memory, Module, Policy};
//!
//! let text = "
//!     .version 8.5
//!     .target sm_90a
//!     .address_size 64
//!     .visible .entry number(.param .u64 out) {
//!         .reg .b32 %r<2>;
//!         .reg .b64 %d<3>;
//!         mov.u32 %r1, %tid.x;
//!         ld.param.u64 %d1, [out];
//!         mul.wide.u32 %d2, %r1, 4;
//!         add.s64 %d1, %d1, %d2;
//!         st.global.u32 [%d1], %r1;
//!         ret;
//!     }";
//! let module = Module::parse(text)?;
//! let kernel = module.kernel("number")?;
//! let memory = Memory::new();
//! let out = memory.allocate(32 * 4);
//! let params = out.to_le_bytes();
//! let launch = Launch::new(&kernel, [1, 1, 1], [32, 1, 1], &params);
//! let report = Launch { policy: Policy::Latest { seed: 1 }, ..launch }.run(&memory)?;
//! let mut word = [0; 4];
//! memory.read(out + 7 * 4, &mut word)?;
//! assert_eq!(u32::from_le_bytes(word), 7);
//! assert_eq!(report.instructions, 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A module is decoded once: every instruction becomes a small value, those that only touch
//! registers a function on 32 lanes. What is not understood is refused with its line. A launch runs
//! its clusters one after the other, or on several threads, and in a cluster the warps take turns as
//! a [`Policy`] says. Asynchronous work (bulk and tensor copies, `cp.async`, products of
//! warpgroups) is done when it is issued, at random, or as late as it may be: a kernel that forgets
//! to wait is wrong on the last schedule at least.
//!
//! Beyond that, what is never right is a [`Fault`] that names block, thread and line:
//!
//! * accesses outside live memory, to freed memory, or misaligned; fresh memory and registers hold
//!   poison;
//! * shared memory that is touched while a copy or product under way uses it, and blocks that exit
//!   before;
//! * registers of products under way, and ones written since the last `wgmma.fence`;
//! * what threads wrote and the async proxy reads without `fence.proxy.async` between;
//! * mbarriers nobody made, arrivals or bytes too many; named barriers with wrong counts;
//! * lanes a collective names that do not come; warps of a warpgroup that issue different products;
//! * deadlocks, with the line of every warp and what it waits for, and loops without an end.
//!
//! It does not tell speed, bank conflicts, weak memory, or the last bits of approximations and
//! tensor cores: `ex2` and its like are computed within two units in the last place, products in
//! f32 in the order of K.
//!
//! | module | holds |
//! |---|---|
//! | `parse` | text to statements |
//! | `registers` | the 32 lanes of a warp's registers |
//! | `isa` | statements to instructions, a file per family |
//! | `memory` | global memory and the windows of generic addresses |
//! | `program` | modules and kernels, variables, registers that share slots |
//! | `exec` | launches, clusters, warps; barriers, copies, products; what is watched |

mod exec;
mod fault;
mod isa;
mod memory;
mod parse;
mod program;
mod registers;
mod tensor_map;

pub use exec::{Launch, Policy, Report};
pub use fault::{Fault, FaultKind};
pub use memory::{Memory, MemoryError};
pub use parse::ParseError;
pub use program::{Kernel, Module, ParamLayout, UnknownKernel};
pub use tensor_map::{Element, Fill, Swizzle, TensorMap, TensorMapError};
