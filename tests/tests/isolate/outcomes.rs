//! How a command ended, as kcm passes it on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, nothing_must_be_held};

#[test]
fn a_commands_end_is_passed_on_and_gives_the_list_back() {
    let conf_dir = one_list();
    for (end, code) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 3", 3),
        ("exit 125", 125),
        ("exit 255", 255),
        ("kill -KILL $$", 128 + 9),
        ("kill -TERM $$", 128 + 15),
        ("ulimit -c 0; kill -SEGV $$", 128 + 11),
        ("ulimit -c 0; kill -ABRT $$", 128 + 6),
        ("kill -PIPE $$", 128 + 13),
    ] {
        let script = format!("echo out; echo err >&2; {end}");
        let outcome = Isolate::new(&conf_dir, "p", &[]).script(&script).run();
        assert_eq!((outcome.code, outcome.signal), (Some(code), None), "{end}: {outcome:?}");
        assert_eq!((&*outcome.out, &*outcome.err), ("out\n", "err\n"), "{end}");
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named_and_gives_the_list_back() {
    let (conf_dir, folder) = (one_list(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, mode) in [("data", 0o644), ("script", 0o755)] {
        fs::write(path(name), "#!/nonexistent/interpreter\n").unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (command, code) in [
        ("no-such-program".to_owned(), 127),
        ("/nonexistent/program".to_owned(), 127),
        (path("missing"), 127),
        (path("data"), 126),
        (path("data/below"), 126),
        (folder.path().to_str().unwrap().to_owned(), 126),
    ] {
        for arguments in [&[] as &[&str], &["--", "argument"]] {
            let outcome = Isolate::new(&conf_dir, "p", &[&command]).words(arguments).run();
            assert_eq!((outcome.code, &*outcome.out), (Some(code), ""), "{outcome:?}");
            let errors = outcome.lines("ERROR");
            assert!(errors.len() == 1 && errors[0].contains(&command), "{outcome:?}");
            nothing_must_be_held(&conf_dir);
        }
    }
    // The file is there, and what it names is not: exec(3) cannot tell, a shell says 126 or 127.
    let outcome = Isolate::new(&conf_dir, "p", &[&path("script")]).run();
    assert!(matches!(outcome.code, Some(126 | 127)), "{outcome:?}");
    nothing_must_be_held(&conf_dir);
}

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}
