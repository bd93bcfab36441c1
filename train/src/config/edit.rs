//! Settings by name: which there are, what an unknown one was meant to be, one at a time.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use crate::{Error, Result};

/// Every setting, by section: what a configuration with nothing left out contains.
fn known() -> BTreeMap<String, Vec<String>> {
    let mut config = Config::default();
    config.model.path = Some("folder".into());
    config.model.head_dim = Some(64);
    config.data.tokenizer = Some("tokenizer.json".into());
    config.memory.limit = Some(super::ByteSize(1));
    let table = Table::try_from(config).unwrap_or_default();
    let keys = |section: &Value| match section {
        Value::Table(section) => section.keys().cloned().collect(),
        _ => Vec::new(),
    };
    table.iter().map(|(name, section)| (name.clone(), keys(section))).collect()
}

/// Applies `section.key=value`. The value is TOML, or text without quotes.
pub(super) fn set(table: &mut Table, text: &str) -> Result<()> {
    let form = || Error::setting(text, "write it as section.key=value, such as train.steps=100");
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    let name = name.trim();
    let Some((section, key)) = name.split_once('.') else {
        return Err(Error::setting(name, format!("there is no such setting{}", suggestion(name))));
    };
    let as_toml = |value: &str| format!("x = {value}").parse::<Table>().ok()?.remove("x");
    let mut value = as_toml(value).unwrap_or_else(|| Value::String(value.trim().to_owned()));
    if name == "data.paths" && value.is_str() {
        value = Value::Array(vec![value]);
    }
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let section = section.as_table_mut().ok_or_else(form)?;
    section.insert(key.to_owned(), value);
    Ok(())
}

/// Refuses settings that do not exist.
pub(super) fn check_keys(table: &Table) -> Result<()> {
    let known = known();
    let unknown =
        |name: &str| Error::setting(name, format!("there is no such setting{}", suggestion(name)));
    for (section, values) in table {
        let Some(keys) = known.get(section) else {
            let first = values.as_table().and_then(|values| values.keys().next());
            let name = first.map_or(section.clone(), |key| format!("{section}.{key}"));
            return Err(unknown(&name));
        };
        for key in values.as_table().into_iter().flat_map(Table::keys) {
            if !keys.contains(key) {
                return Err(unknown(&format!("{section}.{key}")));
            }
        }
    }
    Ok(())
}

/// Tries every value alone, so that an error can name its setting.
pub(super) fn check_values(table: &Table) -> Result<()> {
    for (section, values) in table {
        let Value::Table(values) = values else {
            return Err(Error::setting(section, format!("is a section; write [{section}]")));
        };
        for (key, value) in values {
            let one = Table::from_iter([(key.clone(), value.clone())]);
            let one = Table::from_iter([(section.clone(), Value::Table(one))]);
            Config::deserialize(one).map_err(|error| {
                let what = error.message().to_owned();
                Error::setting(format!("{section}.{key}"), what)
            })?;
        }
    }
    Ok(())
}

/// `; did you mean ...?`, if some setting is spelt much like `name`.
fn suggestion(name: &str) -> String {
    let names = known()
        .into_iter()
        .flat_map(|(section, keys)| keys.into_iter().map(move |key| format!("{section}.{key}")));
    let key = name.rsplit('.').next().unwrap_or(name);
    let score = |candidate: &String| {
        let (_, own) = candidate.split_once('.').unwrap_or(("", candidate));
        // A key right in itself may only lack its section, or name a wrong one.
        if own == key { 0 } else { distance(candidate, name).min(1 + distance(own, key)) }
    };
    match names.map(|candidate| (score(&candidate), candidate)).min() {
        Some((score, candidate)) if score <= 3 => format!("; did you mean `{candidate}`?"),
        _ => "; the README lists all settings".to_owned(),
    }
}

/// The least number of insertions, deletions and replacements that turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_changes() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("steps", "steps"), 0);
    }

    #[test]
    fn every_setting_is_known() {
        let known = known();
        assert_eq!(known.len(), 5);
        assert!(known["memory"].contains(&"limit".to_owned()));
        assert!(known["train"].contains(&"checkpoint_every".to_owned()));
    }
}
