//! Every launcher against an f64 reference and the CPU's kernel, on the mock driver: kernels are executed on
//! all schedules of the emulator, and must give the same bits on each.

mod adamw;
mod attention;
mod convert;
mod elementwise;
mod embedding;
mod gemm;
mod loss;
mod norm;
mod random;
mod reduce;
mod rope;
mod softmax;
mod strided;
mod util;
mod vocabulary;
