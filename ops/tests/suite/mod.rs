//! Every operation against an f64 reference, in f32 and bf16, on odd shapes and views: on the device of whoever
//! includes this.

mod attention;
mod cast;
mod cat;
mod copy;
pub mod cross_entropy;
mod elementwise;
mod embedding;
mod layer_norm;
mod matmul;
mod planning;
mod reduce;
mod rms_norm;
mod rope;
mod softmax;
mod swiglu;
mod unary;
pub mod util;
pub mod vocabulary;
