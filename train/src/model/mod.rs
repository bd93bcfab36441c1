//! Models: plain structs on the public tensor API.

mod init;
pub mod llama;

pub use init::Source;
pub use llama::LlamaStage;
