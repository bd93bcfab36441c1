//! The differentiable operations: methods of [`Tensor`](crate::Tensor) and their backward.

mod arithmetic;
mod embedding;
mod linear;
mod loss;
mod norm;
mod reduce;
mod rope;
mod swiglu;
mod unary;
mod views;
