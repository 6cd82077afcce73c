//! A command that is a plain word, or has arguments, is executed with no shell between.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, nothing_must_be_held};
use kcm_tests::programs::{copy, copy_to};

/// Goes into a root with the machine's `/proc` and `/sys` in it, and the configuration directory.
const ENTER: &str = r#"for folder in /proc /sys; do mount --rbind "$folder" "$0$folder" || exit; done
mount --bind "$CONF_DIR" "$0/conf" && exec chroot "$0" "$@""#;

/// `kcm isolate` in this root.
fn inside(root: &Path, conf_dir: &ConfDir, command: &[&str]) -> Isolate {
    let enter = ["unshare", "-m", "/bin/sh", "-c", ENTER, root.to_str().unwrap()];
    let isolate = ["/kcm", "isolate", "--conf-dir=/conf", "--pool=p"];
    Isolate::of(enter).words(isolate).words(command).env("CONF_DIR", conf_dir.path())
}

#[test]
fn a_command_runs_where_there_is_no_shell() {
    let (conf_dir, root) = (one_list(), tempfile::tempdir().unwrap());
    for folder in ["proc", "sys", "conf"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    copy_to("kcm", &root.path().join("kcm"));
    for name in ["busybox", "true"] {
        copy("/bin/busybox".as_ref(), &root.path().join(name));
    }
    for (command, expected) in [
        (&["/busybox", "--", "echo", "a  b", "$HOME", "|", "cat"] as &[_], "a  b $HOME | cat\n"),
        (&["/busybox", "--", "sh", "-c", "echo $KCM_CPUS_ASSIGNED"], "0\n"),
        (&["/true"], ""),
        (&["--", "/true"], ""),
    ] {
        let outcome = inside(root.path(), &conf_dir, command).run().succeeded();
        assert_eq!((&*outcome.out, &*outcome.err), (expected, ""), "{command:?}");
        nothing_must_be_held(&conf_dir);
    }
    // Which shows that there is none.
    let outcome = inside(root.path(), &conf_dir, &["/busybox echo"]).run();
    assert_eq!((outcome.code, &*outcome.out), (Some(127), ""), "{outcome:?}");
    assert!(outcome.lines("ERROR")[0].contains("/bin/sh"), "{outcome:?}");
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_plain_word_names_a_program_whatever_a_shell_would_make_of_it() {
    let (conf_dir, folder) = (one_list(), tempfile::tempdir().unwrap());
    // An assignment, builtins, and each further character that a plain word may have.
    for word in ["a=b", ":", "exit", "cd", "+x", "%1", "@home,v-1.0_A"] {
        let path = folder.path().join(word);
        fs::write(&path, "#!/bin/sh\necho \"I am ${0##*/}\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let isolate = Isolate::new(&conf_dir, "p", &[word]);
        let search = format!("{}:/bin:/usr/bin", folder.path().display());
        let outcome = isolate.env("PATH", search).run().succeeded();
        assert_eq!((&*outcome.out, &*outcome.err), (&*format!("I am {word}\n"), ""));
        nothing_must_be_held(&conf_dir);
    }
}

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}
