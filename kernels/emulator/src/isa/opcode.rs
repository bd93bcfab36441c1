//! An opcode and its modifiers. Every modifier must be understood, or the instruction is refused.

use super::Type;

/// A dotted opcode; modifiers are ticked off as they are understood.
pub(crate) struct Opcode<'a> {
    pub name: &'a str,
    modifiers: Vec<(&'a str, bool)>,
}

impl<'a> Opcode<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut parts = text.split('.');
        let name = parts.next().unwrap_or(text);
        Self { name, modifiers: parts.map(|p| (p, false)).collect() }
    }

    /// Whether the modifier is there; it counts as understood.
    pub(crate) fn has(&mut self, modifier: &str) -> bool {
        self.take(|m| (m == modifier).then_some(())).is_some()
    }

    /// The first of the pairs whose modifier is there.
    pub(crate) fn choose<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        self.take(|m| choices.iter().find(|c| c.0 == m).map(|c| c.1))
    }

    /// The next type.
    pub(crate) fn ty(&mut self) -> Result<Type, String> {
        self.take(Type::parse).ok_or_else(|| "a type is missing".to_string())
    }

    /// The next modifier that `f` knows.
    pub(crate) fn take<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.modifiers.iter_mut().filter(|m| !m.1).find_map(|m| {
            let value = f(m.0)?;
            m.1 = true;
            Some(value)
        })
    }

    /// Refuses what nobody understood.
    pub(crate) fn finish(&self) -> Result<(), String> {
        match self.modifiers.iter().find(|m| !m.1) {
            Some((modifier, _)) => Err(format!("the modifier '.{modifier}' is not supported")),
            None => Ok(()),
        }
    }
}
