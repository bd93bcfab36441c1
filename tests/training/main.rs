//! A tiny Llama trained in every way there is: equal results, the memory law.

mod data;
mod equality;
mod exchange;
mod memory;
mod offload;
mod own_attention;
mod planned;
mod recompute;
mod support;
mod vocabulary;
