//! What is wrong with settings, told in the flags of a command that has no settings.

use std::fmt::Display;

/// Settings by the flags that a command has for them.
pub type Flags = [(&'static str, &'static str)];

/// `result`, with flags in place of settings where its error names them.
pub fn in_flags<T>(result: Result<T, impl Display>, flags: &Flags) -> anyhow::Result<T> {
    result.map_err(|error| {
        let told = error.to_string();
        anyhow::Error::msg(flags.iter().fold(told, |told, (of, flag)| told.replace(of, flag)))
    })
}
