use super::*;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, (String, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all = BTreeMap::new();
    for path in entries {
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
            let text = fs::read_to_string(&path).unwrap();
            all.insert(path, (text, mode));
        }
    }
    all
}

#[test]
fn files_are_made_changed_and_removed_and_nothing_else_is_left() {
    let folder = folder(&[("changed", "old"), ("gone", "x"), ("same", "s")]);
    let at = |name: &str| folder.path().join(name);
    fs::set_permissions(at("changed"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(at("same"), Permissions::from_mode(0o644)).unwrap();
    let wanted = vec![
        Wanted::file(at("new/below/file"), "n", Some(0o755)),
        Wanted::file(at("changed"), "new", None),
        Wanted::none(at("gone")),
        Wanted::none(at("never")),
        Wanted::file(at("same"), "s", None),
    ];
    let found = changes(wanted.clone()).unwrap();
    let paths: Vec<&Path> = found.iter().map(Change::path).collect();
    assert_eq!(paths, [at("new/below/file"), at("changed"), at("gone")]);
    apply(&found).unwrap();
    let expected = BTreeMap::from([
        (at("new/below/file"), ("n".to_owned(), 0o755)),
        (at("changed"), ("new".to_owned(), 0o640)),
        (at("same"), ("s".to_owned(), 0o644)),
    ]);
    assert_eq!(contents(folder.path()), expected);
    assert!(changes(wanted).unwrap().is_empty(), "a second time");
}

#[test]
fn what_fails_at_last_leaves_all_as_it_was() {
    let folder = folder(&[("first", "1"), ("third", "3")]);
    let at = |name: &str| folder.path().join(name);
    let before = contents(folder.path());
    let found = changes(vec![
        Wanted::file(at("first"), "new", None),
        Wanted::file(at("made/second"), "2", None),
        Wanted::none(at("third")),
        Wanted::file(at("fourth"), "4", None),
    ]);
    let found = found.unwrap();
    // Somebody else has made that since.
    fs::create_dir(at("fourth")).unwrap();
    fs::write(at("fourth/x"), "").unwrap();
    let failed = apply(&found).unwrap_err().to_string();
    assert!(failed.contains("cannot replace") && failed.contains("fourth"), "{failed}");
    fs::remove_dir_all(at("fourth")).unwrap();
    assert_eq!(contents(folder.path()), before);
    assert!(!at("made").exists());
}

#[test]
fn a_link_stays_one_and_its_target_is_changed() {
    let folder = folder(&[("target", "old")]);
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("target", at("link")).unwrap();
    apply(&changes(vec![Wanted::file(at("link"), "new", None)]).unwrap()).unwrap();
    assert!(at("link").is_symlink());
    assert_eq!(fs::read_to_string(at("target")).unwrap(), "new");
}
