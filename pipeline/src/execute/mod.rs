//! Runs a schedule's program on a rank's stages, and records what it did and when.

mod batch;
mod data;
mod error;
mod evaluate;
mod exchange;
mod groups;
mod losses;
mod payload;
mod pipeline;
mod plan;
mod routes;
mod stage;
mod stream;
mod timeline;
mod travel;
mod unit;
mod vocabulary;

pub use batch::{Batch, Sequence};
pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use exchange::check_exchange;
pub use pipeline::{Pipeline, StepReport};
pub use stage::{SliceContext, Stage, StageInput, StageOutput, StageSpec, VocabularySpec};
pub use timeline::{Span, Timeline, Work};
pub use vocabulary::{VocabularyDeal, VocabularyPart};
