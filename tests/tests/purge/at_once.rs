//! Purges, inits, and holders that come all the time: never two holders of one list (R5).

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::{kcm, run};

use super::purge;

/// For so long.
const LONG: Duration = Duration::from_secs(8);
const HOLDERS: usize = 4;

/// Makes a folder that only one can make, and takes it away again.
const ALONE: &str = r#"mkdir "$0/held" || { echo TWO >> "$0/two"; exit 9; }; rmdir "$0/held""#;

/// Ends all when one has ended, or failed.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn isolate(conf_dir: &Path, folder: &Path) -> Isolate {
    let words = ["isolate", "--pool=dataplane", "--conf-dir"];
    let start = Isolate::of([kcm().get_program()]).words(words).words([conf_dir]);
    start.words(["/bin/sh", "--", "-c", ALONE]).words([folder])
}

#[test]
fn a_list_has_one_holder_while_its_directory_is_purged_and_made_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let conf_dir = folder.path().join("kcm");
    let (done, held, purged) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut made = 0;
    std::thread::scope(|threads| {
        let _until = Until(&done);
        for _ in 0..HOLDERS {
            threads.spawn(|| {
                let _until = Until(&done);
                while !done.load(Ordering::Relaxed) {
                    let outcome = isolate(&conf_dir, folder.path()).run();
                    match outcome.code {
                        Some(0) => drop(held.fetch_add(1, Ordering::Relaxed)),
                        Some(125) => {
                            let known = ["is no kcm configuration directory", "No free cpu lists"];
                            let is_known = known.iter().any(|part| outcome.err.contains(part));
                            assert!(is_known, "{outcome:?}");
                        }
                        _ => panic!("{outcome:?}"),
                    }
                }
            });
        }
        threads.spawn(|| {
            let _until = Until(&done);
            while !done.load(Ordering::Relaxed) {
                let outcome = purge(&conf_dir);
                match outcome.code {
                    Some(0) if outcome.err.contains("Nothing to change") => {}
                    Some(0) => drop(purged.fetch_add(1, Ordering::Relaxed)),
                    _ => assert!(outcome.err.contains("end that first"), "{outcome:?}"),
                }
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < LONG {
            let words = ["init", "--num-dp-cores=1", "--num-cp-cores=0", "--conf-dir"];
            let outcome = run(kcm().args(words).arg(&conf_dir)).succeeded();
            made += usize::from(outcome.err.contains("Adding cpu list"));
        }
    });
    let (held, purged) = (held.into_inner(), purged.into_inner());
    println!("{made} inits, {purged} purges, a list held {held} times");
    assert!(made > 5 && purged > 5 && held > 5, "{made} {purged} {held}");
    assert!(!fs::exists(folder.path().join("two")).unwrap(), "two holders at once");
}
