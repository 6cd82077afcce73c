//! JSON, SVG, and two runs side by side.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::{two_cpus, with_own_mounts};
use kcm_tests::own_place::OwnPlace;

use super::load::{Load, mount_tracefs};

/// Has Python's XML parser (expat) read a picture, and gives all its text, a line each.
fn texts_of(svg: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.svg");
    fs::write(&path, svg).unwrap();
    let program = "import sys, xml.etree.ElementTree as E\n\
                   root = E.parse(sys.argv[1]).getroot()\n\
                   assert root.tag == '{http://www.w3.org/2000/svg}svg', root.tag\n\
                   for e in root.iter():\n\
                   \x20   for k in ('x', 'y', 'width', 'height'):\n\
                   \x20       v = e.get(k, '0')\n\
                   \x20       assert v.endswith('%') or 0 <= float(v) < 10000, (e.tag, k, v)\n\
                   \x20   if e.text and e.text.strip(): print(repr(e.text))\n";
    let output = Command::new("python3").args(["-c", program]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}\n{svg}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn noise(args: &[&str]) -> String {
    run(kcm().arg("noise").args(args)).succeeded().out
}

#[test]
fn a_picture_is_well_formed_and_has_the_sources_names_whatever_those_are() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let _place = OwnPlace::enter();
        let [first, _] = two_cpus();
        let ms = Duration::from_millis;
        let load = Load::start("</text>&<x a='", first.parse().unwrap(), ms(1), ms(2));
        let svg = noise(&[&format!("--cpus={first}"), "--duration=300ms", "--output=svg"]);
        let texts = texts_of(&svg);
        assert!(texts.iter().any(|text| text.contains("thread </text>&<x a=")), "{texts:#?}");
        assert!(texts.iter().any(|text| text.contains("prefers-color-scheme:dark")), "{texts:#?}");
        let rows = svg.matches("<line class=\"line\"").count();
        assert!(rows > 1 && svg.matches("<rect class=\"b\"").count() > 5, "{svg}");
        drop(load);

        let conf = ConfDir::new(&[("p", true, &[&first])]);
        let flag = format!("--conf-dir={}", conf.path().display());
        let measured = noise(&[&flag, "--pool=p", "--measure", "--duration=300ms", "--output=svg"]);
        let texts = texts_of(&measured);
        for part in ["between two readings of the clock", "10 µs", "pool p, CPUs "] {
            assert!(texts.iter().any(|text| text.contains(part)), "{part:?}: {texts:#?}");
        }
    });
}

#[test]
fn two_runs_are_put_side_by_side_in_each_form() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let [first, _] = two_cpus();
        let folder = tempfile::tempdir().unwrap();
        let before = folder.path().join("before.json");
        let cpus = format!("--cpus={first}");
        let ms = Duration::from_millis;
        let load = Load::start("kcm-before", first.parse().unwrap(), ms(1), ms(2));
        fs::write(&before, noise(&[&cpus, "--duration=300ms", "--output=json"])).unwrap();
        drop(load);
        let _load = Load::start("kcm-after", first.parse().unwrap(), ms(1), ms(2));
        let compare = format!("--compare={}", before.display());
        let table = noise(&[&cpus, "--duration=300ms", &compare]);
        let row = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(&format!("thread     {name} ")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in\n{table}"));
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("kcm-before")[row("kcm-before").len() - 3..], ["-", "-", "-"]);
        let after = row("kcm-after");
        assert_eq!(after[after.len() - 8..after.len() - 5], ["-", "-", "-"]);
        assert!(table.starts_with("BEFORE  CPUs ") && table.contains("\nNOW     CPUs "), "{table}");

        let json = noise(&[&cpus, "--duration=50ms", &compare, "--output=json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let written: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&before).unwrap()).unwrap();
        assert_eq!(json["before"], written);
        assert_eq!(json["now"]["cpus"], first.as_str());

        let texts = texts_of(&noise(&[&cpus, "--duration=50ms", &compare, "--output=svg"]));
        for part in ["BEFORE: CPUs", "NOW: CPUs", "kcm-before", "kcm-after"] {
            assert!(texts.iter().any(|text| text.contains(part)), "{part:?}: {texts:#?}");
        }
    });
}

#[test]
fn what_is_no_report_is_refused_before_anything_is_looked_at() {
    let [first, _] = two_cpus();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report");
    let deep = "[".repeat(1 << 20);
    for (text, part) in [
        ("", "no report"),
        ("{}", "no report"),
        ("[1]", "no report"),
        ("{\"cpus\": 3}", "no report"),
        (&deep, "no report"),
    ] {
        fs::write(&path, text).unwrap();
        let begun = std::time::Instant::now();
        let compare = format!("--compare={}", path.display());
        let cpus = format!("--cpus={first}");
        let mut command = kcm();
        command.args(["noise", "--duration=1h", &cpus, &compare]);
        run(&mut command).failed_with(&[part, path.to_str().unwrap(), "--output=json"]);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [&fifo, &folder.path().join("none"), &folder.path().to_owned()] {
        let compare = format!("--compare={}", path.display());
        let mut command = kcm();
        command.args(["noise", "--duration=1h", &format!("--cpus={first}"), &compare]);
        run(&mut command).failed_with(&["cannot read --compare=", path.to_str().unwrap()]);
    }
}
