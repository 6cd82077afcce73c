//! What kcm makes goes, all of it; who lives keeps it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::two_cpus;
use kcm_tests::mount::Mount;
use kcm_tests::node::on_a_node;
use kcm_tests::tree::tree;

use super::{full, is_gone, purge, words};

#[test]
fn a_dry_run_lists_each_path_that_would_go_and_those_go() {
    let conf = full();
    let before = tree(conf.path());
    let outcome = run(kcm().args(words(conf.path())).arg("--dry-run")).succeeded();
    assert!(tree(conf.path()) == before, "a dry run changes nothing");
    let paths =
        outcome.out.lines().map(|line| PathBuf::from(line.strip_prefix("Remove ").unwrap()));
    let mut paths: Vec<PathBuf> = paths.collect();
    for (number, path) in paths.iter().enumerate() {
        let below = paths[number..].iter().filter(|other| other.starts_with(path)).count();
        assert_eq!(below, 1, "{} goes before what is in it", path.display());
    }
    assert_eq!(paths.last().map(PathBuf::as_path), Some(conf.path()));
    assert_eq!(paths[paths.len() - 2], conf.path().join("lock"), "the lock guards the rest");
    paths.sort();
    assert_eq!(paths, before.into_keys().collect::<Vec<_>>());
    purge(conf.path()).succeeded();
    is_gone(conf.path());
    let again = purge(conf.path()).succeeded();
    assert!(again.err.contains("Nothing to change"), "{again:?}");
}

#[test]
fn what_init_made_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kcm");
    let flag = format!("--conf-dir={}", path.display());
    run(kcm()
        .args(["init", "--num-dp-cores=1", "--num-cp-cores=0", &flag])
        .arg("--partition=dataplane=root"))
    .succeeded();
    assert!(path.join("pools/dataplane/partition").is_file());
    purge(&path).succeeded();
    is_gone(&path);
    // A folder for it that is empty.
    fs::create_dir(&path).unwrap();
    purge(&path).succeeded();
    is_gone(&path);
}

#[test]
fn as_long_as_anybody_lives_in_it_it_stays() {
    let [cpu, _] = two_cpus();
    let conf = ConfDir::new(&[("p", true, &[&cpu])]);
    let running = Isolate::new(&conf, "p", &[]).script("echo $$; exec sleep 1000").start();
    let (pid, owner) = (running.pid().to_string(), running.owner());
    running.line(0);
    let stays = |part: &str| {
        let before = tree(conf.path());
        let refused = purge(conf.path()).failed_with(&[part, "stays"]);
        assert!(refused.err.contains("end that first"), "{refused:?}");
        assert_eq!(tree(conf.path()), before);
    };
    stays(&pid);
    // By its record alone.
    fs::write(conf.tasks_path("p", &cpu), "").unwrap();
    purge(conf.path()).failed_with(&["stays", &pid]);
    assert!(conf.record(&owner).is_some());
    drop(running);
    purge(conf.path()).succeeded();
    is_gone(conf.path());
}

#[test]
fn a_place_that_is_somebody_elses_stays_empty() {
    on_a_node(|_| {
        let conf = full();
        let _mount = Mount::tmpfs(conf.path(), "mode=755");
        let outcome = purge(conf.path()).succeeded();
        assert!(outcome.lines("WARNING")[0].contains("it is a mount point"), "{outcome:?}");
        assert_eq!(fs::read_dir(conf.path()).unwrap().count(), 0);

        let conf = full();
        fs::create_dir(conf.path().join("lost+found")).unwrap();
        let outcome = purge(conf.path()).succeeded();
        assert!(outcome.lines("WARNING")[0].contains("lost+found"), "{outcome:?}");
        assert_eq!(fs::read_dir(conf.path()).unwrap().count(), 1);

        let conf = full();
        let link = conf.path().with_file_name("link");
        symlink(conf.path(), &link).unwrap();
        let outcome = purge(&link).succeeded();
        assert!(outcome.lines("WARNING")[0].contains("symbolic link"), "{outcome:?}");
        assert_eq!(fs::read_dir(conf.path()).unwrap().count(), 0);
    });
}
