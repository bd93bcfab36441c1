//! The differentiable operations: methods of [`Tensor`](crate::Tensor) and their backward.

mod arithmetic;
mod embedding;
mod layer_norm;
mod linear;
mod loss;
mod operators;
mod reduce;
mod rms_norm;
mod rope;
mod swiglu;
mod unary;
mod views;
