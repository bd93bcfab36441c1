//! Every launcher against an f64 reference and the CPU's kernel, on the mock driver: kernels are executed on
//! all schedules of the emulator, and must give the same bits on each.

mod adamw;
mod attention;
mod convert;
mod elementwise;
mod embedding;
#[path = "../shared/figures.rs"]
mod figures;
mod gemm;
mod loss;
mod mutations;
mod norm;
#[path = "../shared/planted.rs"]
mod planted;
mod random;
mod reduce;
mod rope;
mod softmax;
mod strided;
mod util;
mod vocabulary;
