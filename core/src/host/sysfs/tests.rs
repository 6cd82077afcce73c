use super::*;

/// A folder of sysfs files, removed with the value.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join("sys/devices/system").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn masks_are_read_as_the_kernel_prints_them() {
    for (text, cpus) in [
        ("3\n", Ok("0-1")),
        ("ff,00000001\n", Ok("0,32-39")),
        ("00000000,00000000", Ok("")),
        ("80000000,00000000", Ok("63")),
        ("1,x", Err("'x' is no 32-bit word in hexadecimal")),
        ("+1", Err("'+1' is no 32-bit word in hexadecimal")),
        ("100000000", Err("'100000000' is no 32-bit word in hexadecimal")),
        ("", Err("'' is no 32-bit word in hexadecimal")),
        (&format!("1{}", ",0".repeat(256)), Err("'1' goes past CPU 8191")),
    ] {
        let parsed = parse_mask(text).map(|cpus| cpus.to_string());
        assert_eq!(parsed, cpus.map(Into::into).map_err(Into::into), "{text:?}");
    }
}

#[test]
fn a_file_that_is_missing_or_wrong_is_named() {
    for (files, error) in [
        (&[][..], "cpu/online: No such file or directory"),
        (&[("cpu/online", "0-x")], "cpu/online: '0-x' is no CPU number"),
        (&[("cpu/online", "0")], "cpu0/topology/thread_siblings: No such file or directory"),
        (
            &[("cpu/online", "0"), ("cpu/cpu0/topology/core_cpus", "1")],
            "cpu0/topology/core_siblings: No such file or directory",
        ),
        (
            &[("cpu/online", "0"), ("cpu/cpu0/topology/core_cpus", "z")],
            "cpu0/topology/core_cpus: 'z' is no 32-bit",
        ),
    ] {
        let root = tree(files);
        let refusal = read_topology(root.path(), &CpuSet::new()).unwrap_err();
        assert!(refusal.to_string().contains(error), "{refusal}");
    }
}

#[test]
fn what_an_old_or_small_kernel_lacks_is_no_error() {
    let root = tree(&[
        ("cpu/possible", "0-1\n"),
        ("cpu/cpu0/topology/thread_siblings_list", "0\n"),
        ("cpu/cpu0/topology/core_siblings_list", "0-1\n"),
        ("cpu/cpu1/topology/thread_siblings", "2\n"),
        ("cpu/cpu1/topology/core_siblings", "3\n"),
    ]);
    let topology = read_topology(root.path(), &CpuSet::from_iter([1])).unwrap();
    let told: Vec<_> =
        (topology.cpus.iter()).map(|c| (c.id, c.core, c.socket, c.node, c.isolated)).collect();
    assert_eq!(told, [(0, 0, 0, None, false), (1, 1, 0, None, true)]);
    assert_eq!(read_isolated(root.path()).unwrap(), CpuSet::new());
    assert_eq!(last_possible_cpu(root.path()).unwrap(), 1);
    assert_eq!(numa_nodes(root.path()).unwrap(), BTreeMap::new());
}

#[test]
fn a_node_with_memory_alone_has_no_cpus() {
    let root = tree(&[
        ("node/node0/cpumap", "3\n"),
        ("node/node2/cpulist", "\n"),
        ("node/possible", "0-2\n"),
    ]);
    let nodes = numa_nodes(root.path()).unwrap();
    assert_eq!(nodes, BTreeMap::from([(0, CpuSet::from_iter([0, 1])), (2, CpuSet::new())]));
}
