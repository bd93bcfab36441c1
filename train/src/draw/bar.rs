//! A piece of a rank's time.

use slimpipe_pipeline::schedule::{Action, Unit};

/// What a rank did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A forward.
    Forward,
    /// A backward, whole.
    Backward,
    /// The part of a backward that gives the gradient of the unit's input.
    BackwardInput,
    /// The part of a backward that gives the weights' gradients.
    BackwardWeight,
    /// Attention for other ranks.
    Help,
    /// Embedding, output layer and loss, shared by all ranks.
    Vocabulary,
    /// Communication between data ranks, beside everything else.
    Beside,
    /// Everything that is not computing: waiting, sending, receiving.
    Other,
}

impl Kind {
    /// All kinds, with the words with which labels of their bars begin.
    const WORDS: [(Self, &[&str]); 6] = [
        (Self::Forward, &["F"]),
        (Self::Backward, &["B"]),
        (Self::BackwardInput, &["I"]),
        (Self::BackwardWeight, &["W"]),
        (Self::Help, &["attend for F", "attend for B", "help"]),
        (Self::Vocabulary, &["embed", "head", "embed grad"]),
    ];

    /// Whether the rank computes.
    pub fn is_compute(self) -> bool {
        !matches!(self, Self::Other | Self::Beside)
    }
}

/// A span of one rank's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What was done.
    pub kind: Kind,
    /// The unit, if it was for one.
    pub unit: Option<Unit>,
    /// What to call it, such as `F mb0 s3`.
    pub label: String,
    /// The rank at the other end, if it was a message.
    pub peer: Option<u32>,
    /// When it began.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
}

impl Bar {
    /// A bar from its label: what was done, then the unit's microbatch, slice and, unless it is the
    /// first, chunk.
    pub fn new(label: String, begin: f64, end: f64) -> Self {
        let words = label.split_once(" mb").map_or(&*label, |(words, _)| words);
        let found = Kind::WORDS.iter().find(|(_, all)| all.contains(&words));
        let other = if label.starts_with("data ") { Kind::Beside } else { Kind::Other };
        let kind = found.map_or(other, |(kind, _)| *kind);
        let unit = unit_of(&label);
        Self { kind, unit, label, peer: None, begin, end }
    }

    /// A simulated action; `None` if it does not take the computing rank's time.
    pub(super) fn of(action: Action, begin: f64, end: f64) -> Option<Self> {
        let (words, unit) = match action {
            Action::Forward(unit) => ("F", Some(unit)),
            Action::Backward(unit) => ("B", Some(unit)),
            Action::BackwardInput(unit) => ("I", Some(unit)),
            Action::BackwardWeight(unit) => ("W", Some(unit)),
            Action::Help(_) => ("help", None),
            Action::VocabEmbed(unit) => ("embed", Some(unit)),
            Action::VocabHead(unit) => ("head", Some(unit)),
            Action::VocabEmbedBackward(unit) => ("embed grad", Some(unit)),
            _ => return None,
        };
        let label = unit.map_or(words.to_owned(), |unit| label(words, unit));
        (end > begin).then(|| Self::new(label, begin, end))
    }
}

/// What to call a bar of a unit.
pub(crate) fn label(words: &str, unit: Unit) -> String {
    let Unit { microbatch, slice, chunk } = unit;
    let chunk = if chunk == 0 { String::new() } else { format!(" c{chunk}") };
    format!("{words} mb{microbatch} s{slice}{chunk}")
}

fn unit_of(label: &str) -> Option<Unit> {
    let (_, rest) = label.split_once(" mb")?;
    let mut numbers = rest.split(' ');
    let microbatch = numbers.next()?.parse().ok()?;
    let slice = numbers.next()?.strip_prefix('s')?.parse().ok()?;
    let chunk = match numbers.next() {
        Some(chunk) => chunk.strip_prefix('c')?.parse().ok()?,
        None => 0,
    };
    Some(Unit { microbatch, slice, chunk })
}
