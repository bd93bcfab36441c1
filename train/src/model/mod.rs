//! Models: plain structs on the public tensor API.

mod block;
mod init;
pub mod llama;
mod recompute;

pub use init::Source;
pub use llama::LlamaStage;
pub use recompute::Recompute;
