//! What is refused, and what is said then.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::two_cpus;

#[test]
fn wrong_usage_is_status_2() {
    for words in [
        &[] as &[&str],
        &["--cpus="],
        &["--cpus=x"],
        &["--cpus=3-1"],
        &["--cpus=99999"],
        &["--cpus=0", "--pool=p"],
        &["--pool=p", "--container=x"],
        &["--pool=a/b"],
        &["--cpus=0", "--duration=0"],
        &["--cpus=0", "--duration=1d"],
        &["--cpus=0", "--duration=-1s"],
        &["--cpus=0", "--output=xml"],
        &["--cpus=0", "1"],
    ] {
        let outcome = run(kcm().arg("noise").args(words));
        assert_eq!((outcome.code, &*outcome.out), (Some(2), ""), "{words:?}: {outcome:?}");
        assert!(!outcome.err.is_empty());
    }
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let [first, _] = two_cpus();
    let conf =
        ConfDir::new(&[("p", true, &[&first]), ("empty", true, &[]), ("far", false, &["4000"])]);
    let flag = format!("--conf-dir={}", conf.path().display());
    let before = conf.snapshot();
    for (words, parts) in [
        (&["--pool=q"] as &[&str], &["q", "p"] as &[&str]),
        (&["--pool=empty"], &["pool empty has no CPU lists", "kcm describe"]),
        (&["--pool=far"], &["CPUs 4000 are not online", "name others"]),
        (&["--cpus=4000"], &["CPUs 4000 are not online"]),
        (&[&format!("--cpus={first},4000") as &str], &["CPUs 4000 are not online"]),
        (&["--container=x"], &["no container \"x\" holds CPUs", "none"]),
        (&["--container="], &["no container \"\" holds CPUs"]),
        (&["--pool=p", "--conf-dir=/nonexistent"], &["/nonexistent", "kcm init"]),
    ] {
        let mut command = kcm();
        command.args(["noise", "--duration=50ms"]);
        if !words.iter().any(|word| word.starts_with("--conf-dir")) {
            command.arg(&flag);
        }
        run(command.args(words)).failed_with(parts);
    }
    assert_eq!(conf.snapshot(), before);
}

#[test]
fn help_has_every_flag_and_an_example() {
    let help = run(kcm().args(["noise", "--help"])).succeeded().out;
    for part in ["--pool", "--cpus", "--container", "--duration", "--output", "kcm noise --pool="] {
        assert!(help.contains(part), "{part:?} is not in {help}");
    }
}
