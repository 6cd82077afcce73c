//! Where nothing can be traced: counters and run times.

use std::process::Command;
use std::time::Duration;

use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::machine::{two_cpus, with_own_mounts};
use kcm_tests::oracle::assert_between;
use kcm_tests::programs::{for_any_user, program};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use super::load::Load;

/// `kcm noise` under a command that takes rights away.
fn noise_under(words: &[&str], kcm: &std::path::Path, cpu: &str) -> Outcome {
    let mut command = Command::new(words[0]);
    bare(&mut command);
    command.args(&words[1..]).arg(kcm).args(["noise", "--output=json", "--duration=2s"]);
    run(command.arg(format!("--cpus={cpu}")))
}

#[test]
fn without_the_right_to_trace_it_counts_and_says_so() {
    with_own_mounts(|| {
        // Where it is mounted, it is root's, whatever root may do.
        for path in ["/sys/kernel/tracing", "/sys/kernel/debug"] {
            let (flags, nothing) = (MsFlags::empty(), None::<&str>);
            mount(Some("t"), path, Some("tmpfs"), flags, nothing).unwrap();
        }
        it_counts();
    });
}

fn it_counts() {
    let [first, _] = two_cpus();
    let (_folder, copy) = for_any_user("kcm");
    for (words, kcm) in [
        // Not even root may mount or read tracefs without it.
        (
            &[
                "setpriv",
                "--bounding-set=-sys_admin,-dac_override,-dac_read_search",
                "--inh-caps=-all",
            ] as &[&str],
            program("kcm"),
        ),
        (&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], copy.clone()),
    ] {
        let ms = Duration::from_millis;
        let spinner = Load::start("kcm-spinner", first.parse().unwrap(), ms(1), ms(2));
        let outcome = noise_under(words, &kcm, &first).succeeded();
        let warnings = outcome.lines("WARNING").join("\n");
        for part in ["nothing can be traced", "run it as root", "counters and run times alone"] {
            assert!(warnings.contains(part), "{part:?} is not in {warnings}");
        }
        let report: Value = serde_json::from_str(&outcome.out).unwrap();
        assert_eq!(report["source"], "procfs");
        let cpu = &report["eachCpu"][0];
        let sources = cpu["sources"].as_array().unwrap();
        let thread = spinner.thread;
        let found = sources.iter().find(|source| source["pid"] == thread);
        let found = found.unwrap_or_else(|| panic!("{thread} is not in {report:#}"));
        assert_eq!(found["name"], "kcm-spinner");
        let at = |name: &str| report["window"][name].as_u64().unwrap();
        let (spun, ran) = spinner.ran_between(at("beginNs"), at("endNs"));
        // The kernel adds run times up at each tick, which may be 10 ms apart, and to look at all
        // threads takes a slow machine as long.
        let slack = (ran / 5).max(60_000_000);
        let total = found["totalNs"].as_u64().unwrap();
        assert_between("the spinner", total, spun.saturating_sub(slack), ran + slack);
        let timer = |source: &Value| {
            source["kind"] == "interrupt" && source["name"] == "Local timer interrupts"
        };
        assert!(sources.iter().any(timer), "{report:#}");
        let softirq = |source: &Value| source["kind"] == "softirq" && source["totalNs"].is_null();
        assert!(sources.iter().any(softirq), "{report:#}");
        assert!(cpu["interruptsNs"].is_null() && cpu["softirqsNs"].is_null());
    }
}
