//! The schedule layer: orders and bounds, time, the verifier against mutants, text.

mod exchange;
mod makespan;
mod orders;
mod sample;
mod slices;
mod text;
mod verifier;
mod vocabulary;
mod waits;
