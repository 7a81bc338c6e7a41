//! The settings of a trust directory: `NAME.toml` for a key, `trust.toml` for all.
//!
//! `NAME.toml` may have `name = "..."`, `paths = ["boot/**"]`, `formats = ["native", "fsverity"]`,
//! and the first and the last second at which signatures count, `not_before` and `not_after`, as
//! TOML dates with a time zone or as strings. `trust.toml` may have `require = 2`, and for some paths
//! more: `[[rule]]` with `paths` and `require`.

use std::path::Path;

use super::super::ConfigError;
use super::super::file::{Entry, Key, Source, Value, in_order, shown};
use crate::sign::{Format, Limits, PathGlobs, Requirements};

/// The longest name of a key, in characters.
const NAME_MAX: usize = 100;
const KEYS: [&str; 5] = ["name", "paths", "formats", "not_before", "not_after"];
const DIRECTORY_KEYS: [&str; 2] = ["require", "rule"];
const RULE_KEYS: [&str; 2] = ["paths", "require"];

/// What `NAME.toml` says.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) limits: Limits,
}

/// Reads a key's settings.
pub(super) fn parse_settings(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    let name = path.display().to_string();
    let file = Source { name: &name, text };
    let table = file.table()?;
    let mut settings = Settings::default();
    for (key, value) in in_order(table.get_ref()) {
        let entry = Entry { file: &file, name: key.get_ref(), value };
        let limits = &mut settings.limits;
        match entry.name {
            "name" => settings.name = Some(key_name(&entry)?),
            "paths" => limits.paths = Some(globs(&entry)?),
            "formats" => {
                let formats: Result<Vec<Format>, _> = items(&entry)?.iter().map(Entry::word).collect();
                let formats = formats?;
                if formats.is_empty() {
                    return Err(entry.error("formats is empty; leave it out for the export's own formats"));
                }
                limits.formats = Some(formats.into_iter().collect());
            }
            "not_before" => limits.not_before = Some(time(&entry)?),
            "not_after" => limits.not_after = Some(time(&entry)?),
            unknown => return Err(file.unknown(key.span(), "", unknown, "known keys", &KEYS)),
        }
        if let (Some(first), Some(last)) = (settings.limits.not_before, settings.limits.not_after)
            && first > last
        {
            return Err(entry.error("not_after is before not_before; no signature would count"));
        }
    }
    Ok(settings)
}

/// Reads a directory's settings.
pub(super) fn parse_requirements(text: &str, path: &Path) -> Result<Requirements, ConfigError> {
    let name = path.display().to_string();
    let file = Source { name: &name, text };
    let table = file.table()?;
    let (mut default, mut rules) = (1, Vec::new());
    for (key, value) in in_order(table.get_ref()) {
        let entry = Entry { file: &file, name: key.get_ref(), value };
        match entry.name {
            "require" => default = number(&entry)?,
            "rule" => {
                let tables = value
                    .get_ref()
                    .as_array()
                    .filter(|tables| tables.iter().all(|table| table.get_ref().as_table().is_some()));
                let tables = tables.ok_or_else(|| entry.wrong_type("tables, each headed [[rule]]"))?;
                for table in tables.iter() {
                    rules.push(rule(&file, table)?);
                }
                if rules.len() > Requirements::RULES_MAX {
                    let max = Requirements::RULES_MAX;
                    return Err(entry.error(format_args!("more than {max} rules; put their paths together")));
                }
            }
            unknown => return Err(file.unknown(key.span(), "", unknown, "known keys", &DIRECTORY_KEYS)),
        }
    }
    Ok(Requirements::new(default, rules).unwrap_or_default())
}

fn rule(file: &Source<'_>, table: Value<'_, '_>) -> Result<(PathGlobs, usize), ConfigError> {
    let (mut paths, mut require) = (None, None);
    let entries: Vec<(Key<'_, '_>, Value<'_, '_>)> =
        table.get_ref().as_table().map(in_order).unwrap_or_default();
    for (key, value) in entries {
        let entry = Entry { file, name: key.get_ref(), value };
        match entry.name {
            "paths" => paths = Some(globs(&entry)?),
            "require" => require = Some(number(&entry)?),
            unknown => {
                return Err(file.unknown(key.span(), "rule.", unknown, "known keys of [[rule]]", &RULE_KEYS));
            }
        }
    }
    let missing = |key: &str, example: &str| {
        file.error(table.span(), format_args!("this [[rule]] has no {key}; write {key} = {example}"))
    };
    let paths = paths.ok_or_else(|| missing("paths", "[\"boot/**\"]"))?;
    Ok((paths, require.ok_or_else(|| missing("require", "2"))?))
}

/// How many signers.
fn number(entry: &Entry<'_, '_>) -> Result<usize, ConfigError> {
    let max = u32::try_from(Requirements::MAX).unwrap_or(u32::MAX);
    Ok(entry.number(1..=max)?.try_into().unwrap_or(Requirements::MAX))
}

fn key_name(entry: &Entry<'_, '_>) -> Result<String, ConfigError> {
    let name = entry.string()?;
    if name.trim().is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        let what = format_args!("name must be 1 to {NAME_MAX} characters on one line");
        return Err(entry.error(what));
    }
    Ok(name.to_owned())
}

fn globs(entry: &Entry<'_, '_>) -> Result<PathGlobs, ConfigError> {
    let texts: Result<Vec<String>, _> =
        items(entry)?.iter().map(|item| item.string().map(str::to_owned)).collect();
    PathGlobs::new(texts?).map_err(|error| entry.error(error))
}

/// The items of a list.
fn items<'a, 'i>(entry: &Entry<'a, 'i>) -> Result<Vec<Entry<'a, 'i>>, ConfigError> {
    let list = entry.value.get_ref().as_array();
    let list = list.ok_or_else(|| entry.wrong_type("a list such as [\"...\", \"...\"]"))?;
    let Entry { file, name, .. } = *entry;
    Ok(list.iter().map(|value| Entry { file, name, value }).collect())
}

/// Seconds since 1970, of a TOML date or a string.
fn time(entry: &Entry<'_, '_>) -> Result<i64, ConfigError> {
    let value = entry.value.get_ref();
    let text = match (value.as_datetime(), value.as_str()) {
        (Some(date), _) => date.to_string(),
        (None, Some(text)) => text.to_owned(),
        (None, None) => return Err(entry.wrong_type("a time such as 2026-01-01T00:00:00Z")),
    };
    let parsed = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second);
    parsed.map_err(|_| {
        let what = "must be a time with its zone, such as 2026-01-01T00:00:00Z";
        entry.error(format_args!("{} {what}, not \"{}\"", entry.name, shown(&text)))
    })
}
