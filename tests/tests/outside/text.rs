//! Annotations, names and files that are megabytes long, or turn round the line that they are in.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{CORES, HookCall, POOL};
use kcm_tests::kcm::{kcm, run};
use kcm_tests::stand_in::StandIn;
use serde_json::{Value, json};

/// Ends a line, moves a cursor, turns the direction of writing, has no width, or looks like nothing.
const UNSEEN: [char; 16] = [
    '\n',
    '\r',
    '\u{1b}',
    '\u{7f}',
    '\u{85}',
    '\u{ad}',
    '\u{200b}',
    '\u{200d}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202e}',
    '\u{2066}',
    '\u{2069}',
    '\u{feff}',
    '\u{e0041}',
];

fn hostile() -> String {
    let unseen: String = UNSEEN.iter().collect();
    format!("{unseen}{}", "\u{202e}oops\u{2028}".repeat(20_000))
}

/// Every line is short, and shows all that is in it.
fn must_be_clean(said: &str, most_lines: usize, longest: usize) {
    assert!(
        !said.is_empty() && said.lines().count() <= most_lines,
        "{} lines",
        said.lines().count()
    );
    for line in said.split_inclusive('\n') {
        assert!(line.len() <= longest, "{} bytes: {}", line.len(), &line[..200]);
        let unseen = line.trim_end_matches('\n').chars().find(|c| UNSEEN.contains(c));
        assert_eq!(unseen, None, "{line}");
    }
}

#[test]
fn the_hook_says_what_is_wrong_with_hostile_text_in_one_short_line_that_can_be_read() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let container = StandIn::new("text");
    let state: Value = serde_json::from_str(&container.state(&[])).unwrap();
    let with = |changes: &[(&str, Value)]| {
        let mut state = state.clone();
        for (key, value) in changes {
            state[key] = value.clone();
        }
        state.to_string()
    };
    let cri = |key: &str| format!("io.kubernetes.cri.{key}");
    let named = |name: &str, entry: &str, value: &str| {
        json!({cri("container-type"): "container", cri("container-name"): name,
               cri("sandbox-name"): hostile(), cri("sandbox-namespace"): hostile(),
               entry: value, CORES: "0"})
    };
    let own = format!("{POOL}.{}", hostile());
    let cores = json!({POOL: "p", CORES: hostile()});
    for (input, parts) in [
        (
            with(&[("annotations", json!({POOL: hostile().repeat(5)}))]),
            ["annotation kcm.intel.com/pool is", "is no pool name"],
        ),
        (
            with(&[("annotations", cores)]),
            ["annotation kcm.intel.com/cores is", "give a number of cores"],
        ),
        (
            with(&[("annotations", named(&hostile(), &own, "p"))]),
            ["annotation kcm.intel.com/cores", "0 cores"],
        ),
        (
            with(&[("annotations", named(&hostile(), &own, "-"))]),
            ["annotation \"kcm.intel.com/pool.", "is no pool name"],
        ),
        (
            with(&[("annotations", json!({POOL: "p"})), ("id", json!(hostile()))]),
            ["kcm-hook: ", "200 characters"],
        ),
        (
            with(&[("annotations", json!({POOL: "p"})), ("bundle", json!(hostile()))]),
            ["cannot read", "File name too long"],
        ),
        (
            with(&[("ociVersion", json!(hostile())), ("pid", json!(hostile()))]),
            ["kcm-hook: ", "not an OCI container state"],
        ),
    ] {
        assert!(input.len() < 1 << 20, "a longer state is refused as a whole");
        let ran = HookCall::with_input(conf_dir.path(), "createRuntime", input).run();
        must_be_clean(&ran.stderr, 2, 1 << 10);
        ran.must_refuse(&parts);
        assert_eq!(conf_dir.tasks("p", "0"), "");
    }
}

#[test]
fn kcm_says_what_is_wrong_with_a_hostile_file_in_one_short_line_that_can_be_read() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let text: String = hostile().chars().filter(|c| !c.is_whitespace()).take(10_000).collect();
    std::fs::write(conf_dir.tasks_path("p", "0"), text).unwrap();
    let described = run(kcm().arg("describe").arg("--conf-dir").arg(conf_dir.path()));
    assert_eq!(described.code, Some(1));
    must_be_clean(&described.err, 4, 9 << 10);
    let text = hostile().replace('\n', "");
    let path = text.chars().take(4_000).collect::<String>().replace('\r', "");
    let described = run(kcm().arg("describe").env("KCM_CONF_DIR", path));
    must_be_clean(&described.err, 4, 9 << 10);
}
