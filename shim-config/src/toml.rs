//! Reading and editing TOML that is somebody else's.

use toml_edit::{DocumentMut, Item, Table, TableLike};

use crate::Error;

pub(crate) fn parse(text: &str) -> Result<DocumentMut, Error> {
    text.parse().map_err(|e: toml_edit::TomlError| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Error::Syntax(format!("line {line}: {}", e.message()))
    })
}

/// The table at a path, however it is written; none where there is none.
pub(crate) fn find<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a dyn TableLike> {
    let mut table: &dyn TableLike = document.as_table();
    for name in path {
        table = table.get(name)?.as_table_like()?;
    }
    Some(table)
}

/// The same, made where it is missing, to be changed.
pub(crate) fn find_or_make<'a>(
    document: &'a mut DocumentMut,
    path: &[&str],
) -> Result<&'a mut dyn TableLike, Error> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (depth, name) in path.iter().enumerate() {
        if !table.contains_key(name) {
            let mut new = Table::new();
            new.set_implicit(true);
            table.insert(name, Item::Table(new));
        }
        let wrong = || Error::Content(format!("{} is no table", path[..=depth].join(".")));
        table = table.get_mut(name).and_then(Item::as_table_like_mut).ok_or_else(wrong)?;
    }
    Ok(table)
}

/// A table with the same content, written anew: with no comments, at no place of the text.
pub(crate) fn fresh(table: &dyn TableLike) -> Table {
    let mut copy = Table::new();
    for (name, item) in table.iter() {
        let item = match item {
            Item::Value(value) => {
                let mut value = value.clone();
                value.decor_mut().clear();
                Item::Value(value)
            }
            Item::Table(table) => Item::Table(fresh(table)),
            other => other.clone(),
        };
        copy.insert(name, item);
    }
    copy
}

/// The strings of an array; none where it is no array of strings.
pub(crate) fn strings(item: &Item) -> Option<Vec<String>> {
    item.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}
