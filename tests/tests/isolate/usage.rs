//! Wrong usage: status 2, nothing is started, and nothing is changed.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, nothing_must_be_held};
use kcm_tests::programs::program;

#[test]
fn wrong_usage_starts_nothing_and_changes_nothing() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"]), ("none", true, &["1"])]);
    let before = conf_dir.snapshot();
    let conf_dir_flag = format!("--conf-dir={}", conf_dir.path().display());
    for words in [
        &["echo", "--", "ran"] as &[&str],
        &["--pool=p"],
        &["--pool=p", "--"],
        &["--pool=p", "--cores=0", "echo", "--", "ran"],
        &["--pool=p", "--cores=-1", "echo", "--", "ran"],
        &["--pool=p", "--cores=two", "echo", "--", "ran"],
        &["--pool=p", "--cores=", "echo", "--", "ran"],
        &["--pool=p", "--nice=5", "echo", "--", "ran"],
        &["--pool=p", "--pool=none", "echo", "--", "ran"],
        &["--pool", "echo"],
    ] {
        let isolate = Isolate::of([program("kcm").to_str().unwrap(), "isolate", &conf_dir_flag]);
        let outcome = isolate.words(words).run();
        assert_eq!((outcome.code, &*outcome.out), (Some(2), ""), "{words:?}: {outcome:?}");
        assert!(!outcome.err.is_empty());
        assert_eq!(conf_dir.snapshot(), before, "{words:?}");
    }
    nothing_must_be_held(&conf_dir);
}

#[test]
fn help_has_the_form_of_a_call_and_an_example() {
    let outcome = Isolate::of([program("kcm")]).words(["isolate", "--help"]).run().succeeded();
    for part in ["--pool", "--cores", "--no-affinity", "kcm isolate --pool"] {
        assert!(outcome.out.contains(part), "{part:?} is not in {}", outcome.out);
    }
}
