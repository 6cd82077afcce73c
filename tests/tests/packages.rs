//! The Debian package and the container image, as `make package` has built them: unpacked, loaded and
//! used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::node::{Node, on_a_node};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// What was built, by the end of its name.
fn built(end: &str) -> PathBuf {
    let version = env!("CARGO_PKG_VERSION");
    let path = root().join(format!("dist/kcm_{version}{end}"));
    assert!(path.is_file(), "{} is not there: run `make package`", path.display());
    path
}

fn program(name: &str, words: &[&str]) -> Outcome {
    let mut command = Command::new(name);
    bare(&mut command);
    run(command.args(words))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_package_is_as_debians_policy_wants_it() {
    let deb = built("_amd64.deb");
    // Whatever is not so has a reason, which its overrides give.
    let words = ["--allow-root", "--fail-on", "error,warning", text(&deb)];
    let outcome = program("lintian", &words).succeeded();
    assert_eq!(outcome.out, "");
}

#[test]
fn a_second_build_gives_the_same_bytes() {
    let again = tempfile::tempdir().unwrap();
    for (script, end) in [("deb", "_amd64.deb"), ("image", "_image.tar")] {
        let script = root().join(format!("packaging/{script}/build"));
        program(text(&script), &[text(again.path())]).succeeded();
        let first = built(end);
        let second = again.path().join(first.file_name().unwrap());
        assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{end}: other bytes");
    }
}

/// The package, installed by dpkg into a folder.
fn unpack(node: &Node) -> PathBuf {
    let tree = node.folder().join("package");
    for folder in ["info", "updates", "triggers"] {
        fs::create_dir_all(tree.join("var/lib/dpkg").join(folder)).unwrap();
    }
    fs::write(tree.join("var/lib/dpkg/status"), "").unwrap();
    dpkg(&tree, &["--install", text(&built("_amd64.deb"))]);
    tree
}

/// dpkg on a folder, which has nothing but what packages put there.
fn dpkg(tree: &Path, words: &[&str]) -> Outcome {
    let root = format!("--root={}", tree.display());
    program("dpkg", &[&["--force-script-chrootless", &root], words].concat()).succeeded()
}

#[test]
fn the_package_goes_as_it_came() {
    on_a_node(|node| {
        let tree = unpack(node);
        assert!(dpkg(&tree, &["--status", "kcm"]).out.contains("Status: install ok installed"));
        dpkg(&tree, &["--purge", "kcm"]);
        let left = kcm_tests::tree::tree(&tree).into_keys();
        let left: Vec<PathBuf> = left.filter(|path| !path.starts_with(tree.join("var"))).collect();
        assert!(left.iter().all(|path| path.is_dir() && !path.ends_with("kcm")), "{left:?}");
    });
}

#[test]
fn what_the_package_installs_is_roots_and_nobody_elses_to_change() {
    on_a_node(|node| {
        let tree = unpack(node);
        for (path, mode) in [
            ("usr/bin/kcm", 0o755),
            ("usr/lib/kcm/kcm-hook", 0o755),
            ("lib/systemd/system/kcm-reconcile.service", 0o644),
            ("lib/systemd/system/kcm-shield.service", 0o644),
            ("usr/share/man/man1/kcm.1.gz", 0o644),
            ("usr/share/man/man1/kcm-isolate.1.gz", 0o644),
            ("usr/share/man/man1/kcm-shield.1.gz", 0o644),
            ("usr/share/bash-completion/completions/kcm", 0o644),
            ("usr/share/doc/kcm/copyright", 0o644),
        ] {
            let metadata = fs::metadata(tree.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            let found = (metadata.permissions().mode() & 0o7777, metadata.uid());
            assert_eq!(found, (mode, 0), "{path}");
        }
    });
}

#[test]
fn the_packages_kcm_makes_pools_and_installs_the_hook_that_came_with_it() {
    on_a_node(|node| {
        let tree = unpack(node);
        let kcm = tree.join("usr/bin/kcm");
        let kcm = text(&kcm);
        program(kcm, &["init", "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
        let described = program(kcm, &["describe"]).succeeded().out;
        assert!(described.contains("\"dataplane\""), "{described}");
        program(kcm, &["install"]).succeeded();
        let hook = fs::read("/opt/kcm/kcm-hook").unwrap();
        assert!(hook == fs::read(tree.join("usr/lib/kcm/kcm-hook")).unwrap());
    });
}

#[test]
fn its_manual_is_readable_and_bash_completes_its_subcommands() {
    on_a_node(|node| {
        let tree = unpack(node);
        for entry in fs::read_dir(tree.join("usr/share/man/man1")).unwrap() {
            let path = entry.unwrap().path();
            let page = node.folder().join("page.1");
            fs::write(&page, program("zcat", &[text(&path)]).succeeded().out).unwrap();
            let warnings = ["-man", "-Tutf8", "-ww", "-z", text(&page)];
            let outcome = program("groff", &warnings).succeeded();
            assert_eq!(outcome.err, "", "{}", path.display());
        }
        let completions = tree.join("usr/share/bash-completion/completions/kcm");
        let script = format!(
            "source {}; COMP_WORDS=(kcm re); COMP_CWORD=1; _kcm kcm re kcm; echo \"${{COMPREPLY[@]}}\"",
            completions.display()
        );
        assert_eq!(program("bash", &["-c", &script]).succeeded().out, "reconcile\n");
    });
}

#[test]
fn the_image_has_the_two_programs_and_podman_runs_them() {
    on_a_node(|node| {
        let storage = node.folder().join("storage");
        let runroot = node.folder().join("run");
        let conf_dir = node.folder().join("kcm");
        fs::create_dir(&conf_dir).unwrap();
        let podman = |words: &[&str]| {
            let fixed = ["--root", text(&storage), "--runroot", text(&runroot)];
            let more = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"];
            program("podman", &[&fixed[..], &more, &["--events-backend=file"], words].concat())
        };
        podman(&["load", "--input", text(&built("_image.tar"))]).succeeded();
        let image = format!("localhost/kcm:{}", env!("CARGO_PKG_VERSION"));
        let volume = format!("{}:/etc/kcm", conf_dir.display());
        let in_image = |words: &[&str]| {
            let flags =
                ["run", "--rm", "--network=none", "--log-driver=k8s-file", "--volume", &volume];
            let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
            let security =
                ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"];
            podman(&[&flags[..], &limits, &security, &[&image], words].concat())
        };
        let version = in_image(&["--version"]).succeeded().out;
        assert_eq!(version, format!("kcm {}\n", env!("CARGO_PKG_VERSION")));
        in_image(&["init", "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
        assert!(conf_dir.join("pools/dataplane/exclusive").is_file());

        // As in the second pod of `kcm cluster-init`: with no right but what any container has.
        let mounts = ["--volume=/proc:/host/proc:ro", "--volume=/sys/fs/cgroup:/host/cgroup:ro"];
        let environment = ["--env=KCM_PROC_FS=/host/proc", "--env=KCM_CGROUP_FS=/host/cgroup"];
        let dead = conf_dir.join("pools/dataplane/0/tasks");
        fs::write(&dead, "4194305").unwrap(); // above every pid_max
        let flags = ["run", "--rm", "--network=none", "--log-driver=k8s-file", "--volume", &volume];
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
        let security = ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"];
        let words = ["isolate", "--pool=infra", "/kcm", "--", "reconcile"];
        let image_and_words = [&[image.as_str()], &words[..]].concat();
        let reconciled = podman(
            &[&flags[..], &limits, &security, &mounts, &environment, &image_and_words].concat(),
        );
        // The first writer of a boot frees all that was held before, whoever it is.
        let reconciled = reconciled.succeeded();
        assert!(reconciled.err.contains("process 4194305 is dead"), "{reconciled:?}");
        assert_eq!(fs::read_to_string(&dead).unwrap(), "");

        // As from a DaemonSet: onto the node's file system.
        let host = node.folder().join("host");
        fs::create_dir_all(host.join("usr/bin")).unwrap();
        fs::write(host.join("usr/bin/podman"), "").unwrap();
        let mount = format!("--volume={}:/host", host.display());
        let flags = ["run", "--rm", "--network=none", "--log-driver=k8s-file", &mount];
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"];
        let security = ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"];
        let install = ["install", "--root=/host", "--runtime=podman"];
        podman(&[&flags[..], &limits, &security, &[&image], &install].concat()).succeeded();
        assert!(host.join("opt/kcm/kcm-hook").is_file());
        assert!(host.join("usr/share/containers/oci/hooks.d/50-kcm.json").is_file());
    });
}
