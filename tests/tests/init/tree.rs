//! What is in a folder, as text that tests can compare.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Everything below a folder, sorted: mode, path, and a file's content. `0755 pools/`,
/// `0644 pools/infra/exclusive=0`. The folder itself is `./`.
pub(crate) fn tree(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    collect(folder, "", &mut lines);
    lines.sort_by(|a, b| a[5..].cmp(&b[5..]));
    lines
}

fn collect(folder: &Path, name: &str, lines: &mut Vec<String>) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let shown = if name.is_empty() { "./" } else { name };
    lines.push(format!("{:04o} {shown}", mode(folder)));
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = format!("{name}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&path, &format!("{name}/"), lines);
        } else {
            let content = fs::read_to_string(&path).unwrap();
            lines.push(format!("{:04o} {name}={content}", mode(&path)));
        }
    }
}

/// The CPU lists of the three pools that `kcm init` makes, by lowest CPU:
/// `0,8 1,9 | 2,10 | 3-7,11-15`.
pub(crate) fn pools(conf_dir: &Path) -> String {
    let lists = |pool| {
        let entries = fs::read_dir(conf_dir.join("pools").join(pool)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut lists: Vec<String> = names.filter(|name| name != "exclusive").collect();
        lists.sort_by_key(|list| {
            let first = list.split([',', '-']).next().unwrap();
            first.parse::<u32>().unwrap()
        });
        lists.join(" ")
    };
    ["dataplane", "controlplane", "infra"].map(lists).join(" | ")
}
