//! containerd's runtime handler `kcm`: the default handler's copy, with a base spec that has our
//! hooks, and the annotations of pods let through to them.
//!
//! containerd 1.x replaces whole tables by what a drop-in has, so that its main file is edited; from
//! 2.0 on it merges them, and a drop-in that the main file imports has the handler.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use crate::toml::{find, find_or_make, fresh, parse, strings};
use crate::{Error, MADE_BY};

/// The handler's name, as a RuntimeClass names it.
pub const HANDLER: &str = "kcm";

/// The annotations that are let through (path.Match of Go).
const ANNOTATIONS: &str = "kcm.intel.com/*";

const DEFAULT_NAME: &str = "default_runtime_name";
/// The default handler where none is named.
const BUILT_IN: &str = "runc";
const BASE_SPEC: &str = "base_runtime_spec";
const POD_ANNOTATIONS: &str = "pod_annotations";

/// The CRI plugin that has the runtime handlers, by version of the file.
const PLUGINS: [(i64, &str); 3] = [
    (2, "io.containerd.grpc.v1.cri"),
    (3, "io.containerd.cri.v1.runtime"),
    (4, "io.containerd.cri.v1.runtime"),
];

/// What a handler is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handlers<'a> {
    /// The base spec with our hooks.
    pub base_spec: &'a str,
    /// Whether the default handler gets it, too: for a default pool.
    pub default_too: bool,
}

/// Where the handlers are in a document.
struct Place {
    /// `plugins."…".containerd`
    containerd: [&'static str; 3],
    default: String,
}

impl Place {
    fn of(document: &DocumentMut) -> Result<Self, Error> {
        let version = document.get("version").map(|version| version.as_integer());
        let plugin = match version {
            Some(Some(version)) => PLUGINS.iter().find(|(known, _)| *known == version),
            _ => None,
        };
        let Some((_, plugin)) = plugin else {
            return Err(Error::Content(
                "it is of no version that kcm can edit (2 to 4): see `containerd config migrate`"
                    .into(),
            ));
        };
        let containerd = ["plugins", plugin, "containerd"];
        let table = find(document, &containerd);
        let name = table.and_then(|table| table.get(DEFAULT_NAME));
        let name = name.and_then(Item::as_str).unwrap_or(BUILT_IN);
        if name == HANDLER {
            return Err(Error::Content(format!(
                "its default_runtime_name is {HANDLER:?}, the handler that kcm makes: name another \
                 one, and give --default-pool for containers that name no handler"
            )));
        }
        Ok(Self { containerd, default: name.to_owned() })
    }

    fn runtimes(&self) -> [&str; 4] {
        let [plugins, plugin, containerd] = self.containerd;
        [plugins, plugin, containerd, "runtimes"]
    }

    /// The default handler as the document has it; else what containerd itself has built in.
    fn default_handler(&self, document: &DocumentMut) -> Table {
        let runtimes = find(document, &self.runtimes());
        let handler = runtimes.and_then(|all| all.get(&self.default)?.as_table_like());
        handler.map(fresh).unwrap_or_else(|| {
            let mut built_in = Table::new();
            built_in.insert("runtime_type", value("io.containerd.runc.v2"));
            built_in
        })
    }
}

/// The base spec that the default handler has of its own; none where it has none.
pub fn own_base_spec(config: &str) -> Result<Option<String>, Error> {
    let document = parse(config)?;
    let handler = Place::of(&document)?.default_handler(&document);
    let path = handler.get(BASE_SPEC).and_then(Item::as_str);
    Ok(path.filter(|path| !path.is_empty()).map(str::to_owned))
}

/// containerd 1.x's main file with the handler in it; comments and order stay.
pub fn add(config: &str, handlers: &Handlers<'_>) -> Result<String, Error> {
    let mut document = parse(config)?;
    let place = Place::of(&document)?;
    let original = place.default_handler(&document);
    let runtimes = find_or_make(&mut document, &place.runtimes())?;
    // Where the table has other handlers alone, containerd has no built-in one any more.
    let default = runtimes.entry(&place.default).or_insert(Item::Table(original.clone()));
    if handlers.default_too {
        let wrong = || Error::Content(format!("the runtime {} is no table", place.default));
        hook_up(default.as_table_like_mut().ok_or_else(wrong)?, handlers)?;
    }
    let mut ours = original;
    hook_up(&mut ours, handlers)?;
    runtimes.insert(HANDLER, Item::Table(ours));
    Ok(document.to_string())
}

/// The main file as it was before: without our handler, and with the default handler as it is in
/// `before`, the file from before the installation, where that is known.
pub fn remove(config: &str, base_spec: &str, before: Option<&str>) -> Result<String, Error> {
    let mut document = parse(config)?;
    let place = Place::of(&document)?;
    let before = before.map(parse).transpose()?;
    let before = before.as_ref().and_then(|before| Some((Place::of(before).ok()?, before)));
    let before = before.map(|(place, document)| place.default_handler(document));
    if find(&document, &place.runtimes()).is_none() {
        return Ok(document.to_string());
    }
    let runtimes = find_or_make(&mut document, &place.runtimes())?;
    runtimes.remove(HANDLER);
    if let Some(default) = runtimes.get_mut(&place.default).and_then(Item::as_table_like_mut)
        && default.get(BASE_SPEC).and_then(Item::as_str) == Some(base_spec)
    {
        let before = |key| before.as_ref()?.get(key)?.as_value().cloned();
        match before(BASE_SPEC) {
            Some(path) => set(default, BASE_SPEC, path),
            None => {
                default.remove(BASE_SPEC);
            }
        }
        let named = default.get(POD_ANNOTATIONS).and_then(strings).unwrap_or_default();
        let named: Array = named.into_iter().filter(|name| name != ANNOTATIONS).collect();
        match before(POD_ANNOTATIONS) {
            Some(all) => set(default, POD_ANNOTATIONS, all),
            None if !named.is_empty() => set(default, POD_ANNOTATIONS, named.into()),
            None => {
                default.remove(POD_ANNOTATIONS);
            }
        }
    }
    Ok(document.to_string())
}

/// containerd 2.x's drop-in with the handler, for this main file. `merged` is the configuration as
/// containerd merges it (`containerd config dump`) without the drop-in, in containerd's own version;
/// the drop-in has the main file's, since containerd refuses a later one than that.
pub fn drop_in(main: &str, merged: &str, handlers: &Handlers<'_>) -> Result<String, Error> {
    let (main, merged) = (parse(main)?, parse(merged)?);
    let source = Place::of(&merged)?;
    let default = source.default_handler(&merged);
    let place = Place { default: source.default, ..Place::of(&main)? };
    let mut document = DocumentMut::new();
    document["version"] = value(main.get("version").and_then(Item::as_integer).unwrap_or(3));
    let runtimes = find_or_make(&mut document, &place.runtimes())?;
    let mut hooked = default;
    hook_up(&mut hooked, handlers)?;
    if handlers.default_too {
        runtimes.insert(&place.default, Item::Table(hooked.clone()));
    }
    runtimes.insert(HANDLER, Item::Table(hooked));
    Ok(format!("{MADE_BY}{document}"))
}

/// The main file with a drop-in among its imports; as it is where it has that, or a glob of all in
/// the same folder.
pub fn import(config: &str, drop_in: &str) -> Result<String, Error> {
    let mut document = parse(config)?;
    let folder = drop_in.rsplit_once('/').map_or("", |(folder, _)| folder);
    let all_of_it = format!("{folder}/*.toml");
    if imports(config)?.iter().any(|name| *name == drop_in || *name == all_of_it) {
        return Ok(config.to_owned());
    }
    match document.get_mut("imports").and_then(Item::as_array_mut) {
        Some(imports) => imports.push(drop_in),
        None => {
            document.insert("imports", value(Array::from_iter([drop_in])));
        }
    }
    Ok(document.to_string())
}

/// What a main file imports.
pub fn imports(config: &str) -> Result<Vec<String>, Error> {
    let document = parse(config)?;
    let wrong = || Error::Content("its imports are no list of strings".into());
    document.get("imports").map_or(Ok(Vec::new()), |item| strings(item).ok_or_else(wrong))
}

/// The main file with these imports instead of its own.
pub fn with_imports(config: &str, imports: &[String]) -> Result<String, Error> {
    let mut document = parse(config)?;
    document.insert("imports", value(Array::from_iter(imports)));
    Ok(document.to_string())
}

/// Whether a merged configuration has our handler with this base spec, and the default one.
pub fn has_handler(config: &str, base_spec: &str) -> Result<bool, Error> {
    let document = parse(config)?;
    let place = Place::of(&document)?;
    let runtimes = find(&document, &place.runtimes());
    let handler = |name| runtimes.and_then(|all| all.get(name)?.as_table_like());
    let named = handler(HANDLER).and_then(|handler| handler.get(BASE_SPEC)?.as_str());
    Ok(named == Some(base_spec) && handler(&place.default).is_some())
}

/// The base specs of our handler and of the default one, in a main file and what it imports: the last
/// that names one decides.
pub fn base_specs(files: &[&str]) -> Result<[Option<String>; 2], Error> {
    let documents = files.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let places = documents.iter().map(Place::of).collect::<Result<Vec<_>, _>>()?;
    let all = || documents.iter().zip(&places).rev();
    let named = all().find_map(|(document, place)| {
        let table = find(document, &place.containerd)?;
        table.get(DEFAULT_NAME)?.as_str()
    });
    Ok([HANDLER, named.unwrap_or(BUILT_IN)].map(|name| {
        all().find_map(|(document, place)| {
            let handler = find(document, &place.runtimes())?.get(name)?.as_table_like()?;
            Some(handler.get(BASE_SPEC)?.as_str()?.to_owned())
        })
    }))
}

/// The main file without that import.
pub fn remove_import(config: &str, drop_in: &str) -> Result<String, Error> {
    let mut document = parse(config)?;
    if let Some(imports) = document.get_mut("imports").and_then(Item::as_array_mut) {
        imports.retain(|name| name.as_str() != Some(drop_in));
        if imports.is_empty() {
            document.remove("imports");
        }
    }
    Ok(document.to_string())
}

/// Gives a handler the base spec, and lets our annotations through beside those that it has.
fn hook_up(handler: &mut dyn TableLike, handlers: &Handlers<'_>) -> Result<(), Error> {
    set(handler, BASE_SPEC, handlers.base_spec.into());
    let wrong = || Error::Content(format!("{POD_ANNOTATIONS} is no list of strings"));
    let named = handler.get(POD_ANNOTATIONS).map(|item| strings(item).ok_or_else(wrong));
    let mut named = named.transpose()?.unwrap_or_default();
    if !named.iter().any(|name| name == ANNOTATIONS) {
        named.push(ANNOTATIONS.to_owned());
        set(handler, POD_ANNOTATIONS, Array::from_iter(named).into());
    }
    Ok(())
}

/// Gives a key a value, with the blanks and comments around it as they are.
fn set(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(key, Item::Value(new));
        }
    }
}

#[cfg(test)]
mod tests;
