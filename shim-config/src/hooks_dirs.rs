//! Where CRI-O and podman look for hooks: a list in their own configuration, of which the last file
//! that has one decides.

use crate::{Error, MADE_BY, toml};

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// crio.conf(5): `[crio.runtime]`.
    Crio,
    /// containers.conf(5): `[engine]`.
    Podman,
}

impl Reader {
    fn table(self) -> &'static [&'static str] {
        match self {
            Self::Crio => &["crio", "runtime"],
            Self::Podman => &["engine"],
        }
    }
}

/// The directories that one configuration file names; none where it names none.
pub fn named(reader: Reader, config: &str) -> Result<Option<Vec<String>>, Error> {
    let document = toml::parse(config)?;
    let path = reader.table();
    let Some(dirs) = toml::find(&document, path).and_then(|table| table.get("hooks_dir")) else {
        return Ok(None);
    };
    let wrong = || Error::Content(format!("{}.hooks_dir is no list of strings", path.join(".")));
    toml::strings(dirs).ok_or_else(wrong).map(Some)
}

/// A file that has an engine look into these directories, the last one winning.
pub fn drop_in(reader: Reader, dirs: &[&str]) -> String {
    let dirs: toml_edit::Array = dirs.iter().copied().collect();
    format!("{MADE_BY}[{}]\nhooks_dir = {dirs}\n", reader.table().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_are_found_where_they_are_named() {
        let crio =
            "[crio]\nroot = \"/x\"\n[crio.runtime]\nhooks_dir = [\n  \"/a\", # first\n \"/b\"]\n";
        assert_eq!(named(Reader::Crio, crio), Ok(Some(vec!["/a".into(), "/b".into()])));
        assert_eq!(named(Reader::Podman, crio), Ok(None));
        assert_eq!(named(Reader::Podman, "[engine]\nhooks_dir = []"), Ok(Some(vec![])));
        assert_eq!(named(Reader::Podman, "#[engine]\n#hooks_dir = [\"/x\"]\n"), Ok(None));
        assert!(matches!(named(Reader::Podman, "[engine"), Err(Error::Syntax(_))));
        assert!(matches!(named(Reader::Podman, "[engine]\nhooks_dir = 1"), Err(Error::Content(_))));
    }

    #[test]
    fn the_drop_in_names_them() {
        let text = drop_in(Reader::Crio, &["/usr/share/x", "/etc/x"]);
        let expected =
            "# Made by kcm install.\n[crio.runtime]\nhooks_dir = [\"/usr/share/x\", \"/etc/x\"]\n";
        assert_eq!(text, expected);
        let found = named(Reader::Crio, &text).unwrap().unwrap();
        assert_eq!(found, ["/usr/share/x", "/etc/x"]);
    }
}
