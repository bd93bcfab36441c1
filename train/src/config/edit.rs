//! Settings by name: which there are, what an unknown one was meant to be, one at a time.

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;
use crate::{Error, Result};

/// Every setting with a value it can have, by section: a configuration with nothing left out.
fn known() -> Table {
    let mut config = Config::default();
    config.model.path = Some("folder".into());
    config.model.head_dim = Some(64);
    config.data.tokenizer = Some("tokenizer.json".into());
    config.data.tokens = Some(1);
    config.parallel.vocabulary = Some(true);
    config.parallel.exchange = Some("balanced".to_owned());
    config.memory.limit = Some(super::ByteSize(1));
    config.memory.recompute_layers = "0-3".parse().ok();
    config.memory.offload_folder = Some("folder".into());
    Table::try_from(config).unwrap_or_default()
}

/// The keys of a section.
fn keys(section: &Value) -> impl Iterator<Item = &String> {
    section.as_table().into_iter().flat_map(Table::keys)
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
        let Some(known) = known.get(section) else {
            let first = keys(values).next();
            let name = first.map_or(section.clone(), |key| format!("{section}.{key}"));
            return Err(unknown(&name));
        };
        if let Some(key) = keys(values).find(|key| known.get(key).is_none()) {
            return Err(unknown(&format!("{section}.{key}")));
        }
    }
    Ok(())
}

/// Tries every value alone, so that an error can name its setting.
pub(super) fn check_values(table: &Table) -> Result<()> {
    let known = known();
    for (section, values) in table {
        let Value::Table(values) = values else {
            return Err(Error::setting(section, format!("is a section; write [{section}]")));
        };
        for (key, value) in values {
            let one = Table::from_iter([(key.clone(), value.clone())]);
            let one = Table::from_iter([(section.clone(), Value::Table(one))]);
            Config::deserialize(one).map_err(|error| {
                let what = match expected(&known[section][key]) {
                    Some(expected) => format!("is {value}; it must be {expected}"),
                    None => error.message().to_owned(),
                };
                Error::setting(format!("{section}.{key}"), what)
            })?;
        }
    }
    Ok(())
}

/// What a setting takes that can be `example`; settings of words say it better themselves.
fn expected(example: &Value) -> Option<&'static str> {
    match example {
        Value::Integer(_) => Some("a whole number from 0 to 4294967295"),
        Value::Float(_) => Some("a number"),
        Value::Boolean(_) => Some("true or false"),
        Value::Array(_) => Some("a list, such as [\"a.txt\", \"folder\"]"),
        _ => None,
    }
}

/// `; did you mean ...?`, if some setting is spelt much like `name`.
fn suggestion(name: &str) -> String {
    let known = known();
    let names = known.iter().flat_map(|(section, values)| {
        keys(values).map(move |key| (key, format!("{section}.{key}")))
    });
    // A key alone counts too: one right in itself may only lack its section, or name a wrong one.
    let key = name.rsplit('.').next().unwrap_or(name);
    let far = |own: &str, given: &str| {
        Some(distance(own, given)).filter(|&distance| distance <= (own.len() / 4).clamp(1, 3))
    };
    let nearest = names
        .filter_map(|(own, full)| {
            let distances = far(own, key).into_iter().chain(far(&full, name));
            Some((distances.min()?, full))
        })
        .min();
    match nearest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => "; the README lists all settings".to_owned(),
    }
}

/// The least number of insertions, deletions, replacements and swaps of neighbours that turn `a`
/// into `b` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // From the first i of `a` to the first j of `b`, for the i at hand and the two before it.
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        let [before, above, row] = &mut rows;
        *row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && (a[i - 1], a[i - 2]) == (b[j - 2], b[j - 1]) {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_changes_and_swaps() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("setps", "steps"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("steps", "steps"), 0);
    }

    #[test]
    fn every_setting_is_known() {
        let known = known();
        assert_eq!(known.len(), 5);
        assert!(known["memory"].get("limit").is_some());
        assert!(known["train"].get("checkpoint_every").is_some());
    }
}
