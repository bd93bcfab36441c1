//! A look-alike of cuBLASLt, so that programs that use it run where there is no GPU.
//!
//! It knows what slimpipe asks for: products of bf16 matrices with f32 sums, transposed or not, batched,
//! scaled, added to what is there. They are computed on the memory of the mock CUDA driver, in the order of
//! its streams. What the library would refuse is refused: rows shorter than the matrix, operands that are
//! not aligned as the heuristic was told, a workspace smaller than the algorithm's.
//!
//! | module | holds |
//! |---|---|
//! | [`api`] | cuBLASLt's functions |
//! | [`describe`] | descriptions of products and matrices, and their attributes |
//! | [`product`] | what is computed |
//! | [`control`] | what tests set and read |

#![allow(non_snake_case)]

pub mod api;
pub mod control;
pub mod describe;
pub mod product;
