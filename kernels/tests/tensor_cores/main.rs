//! Tensor-core kernels, executed by the emulator behind the mock driver under three schedules each: results
//! beside f64 references, and equal bit for bit whatever the schedule. Without NVRTC these tests say so and end.

mod attention;
mod cublaslt;
#[path = "../shared/figures.rs"]
mod figures;
mod gemm;
mod gpu;
mod machine_code;
mod mlp_swiglu;
mod mutations;
#[path = "../shared/planted.rs"]
mod planted;
mod reference;
mod variants;
