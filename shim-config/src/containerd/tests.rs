use super::*;

const HANDLERS: Handlers<'static> =
    Handlers { base_spec: "/etc/containerd/kcm-base-spec.json", default_too: false };

const WITH_DEFAULT: Handlers<'static> = Handlers { default_too: true, ..HANDLERS };

/// Debian 12's own.
const DEBIAN: &str = r#"version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"#;

/// A user's, with comments, a second runtime and settings of the default one.
const USERS: &str = r#"# Ours, 2024
version = 2
root = "/data/containerd" # fast disk

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.9"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    # needed by systemd
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["example.com/*"] # ours

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
      runtime_type = "io.containerd.kata.v2"

[metrics]
  address = "127.0.0.1:1338"
"#;

#[test]
fn the_users_file_keeps_every_line_and_gains_a_copy_of_its_default_handler() {
    let ours = r#"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kcm]
runtime_type = "io.containerd.runc.v2"
pod_annotations = ["example.com/*", "kcm.intel.com/*"]
base_runtime_spec = "/etc/containerd/kcm-base-spec.json"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kcm.options]
SystemdCgroup = true
"#;
    let (above, below) = USERS.split_once("\n[metrics]").unwrap();
    assert_eq!(add(USERS, &HANDLERS).unwrap(), format!("{above}{ours}\n[metrics]{below}"));
}

#[test]
fn with_a_default_pool_the_default_handler_is_hooked_as_well() {
    let text = add(USERS, &WITH_DEFAULT).unwrap();
    let expected = r#"      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["example.com/*", "kcm.intel.com/*"] # ours
base_runtime_spec = "/etc/containerd/kcm-base-spec.json"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
"#;
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("runtimes.kcm.options]\nSystemdCgroup = true\n"), "{text}");
}

#[test]
fn where_no_handler_is_configured_the_built_in_one_is_copied_and_kept() {
    let expected = DEBIAN.to_owned().replace(
        "  [plugins.\"io.containerd.internal",
        r#"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kcm]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/kcm-base-spec.json"
pod_annotations = ["kcm.intel.com/*"]
  [plugins."io.containerd.internal"#,
    );
    assert_eq!(add(DEBIAN, &HANDLERS).unwrap(), expected);
}

#[test]
fn a_second_time_changes_nothing() {
    for config in [DEBIAN, USERS, "version = 2\n"] {
        for handlers in [HANDLERS, WITH_DEFAULT] {
            let once = add(config, &handlers).unwrap();
            assert_eq!(add(&once, &handlers).unwrap(), once);
        }
    }
}

#[test]
fn what_is_taken_out_leaves_the_settings_as_they_were() {
    for handlers in [HANDLERS, WITH_DEFAULT] {
        let with = add(USERS, &handlers).unwrap();
        let without = remove(&with, handlers.base_spec, Some(USERS)).unwrap();
        assert_eq!(without, USERS);
        // The user has changed something since.
        let with = with.replace("127.0.0.1:1338", "127.0.0.1:9");
        let without = remove(&with, handlers.base_spec, None).unwrap();
        assert_eq!(without, USERS.replace("127.0.0.1:1338", "127.0.0.1:9"));
    }
}

#[test]
fn the_default_handlers_own_base_spec_is_found_wherever_that_handler_is() {
    let config = |name: &str| {
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
             default_runtime_name = \"{name}\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.\
             runtimes.crun]\nbase_runtime_spec = \"/etc/own.json\"\n"
        )
    };
    assert_eq!(own_base_spec(&config("crun")), Ok(Some("/etc/own.json".into())));
    assert_eq!(own_base_spec(&config("runc")), Ok(None));
    let text = add(&config("crun"), &HANDLERS).unwrap();
    assert!(text.contains("base_runtime_spec = \"/etc/own.json\"\n"), "{text}");
}

/// What containerd 2.x prints as its configuration, as far as it matters here.
const MERGED: &str = r#"version = 3
root = '/var/lib/containerd'

[plugins]
  [plugins.'io.containerd.cri.v1.runtime']
    enable_selinux = false

    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      default_runtime_name = 'runc'

      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
          runtime_type = 'io.containerd.runc.v2'
          pod_annotations = []
          base_runtime_spec = ''

          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
            SystemdCgroup = true
"#;

#[test]
fn the_drop_in_of_version_3_has_the_handler_alone() {
    let expected = r#"# Made by kcm install.
version = 3

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kcm]
runtime_type = 'io.containerd.runc.v2'
pod_annotations = ["kcm.intel.com/*"]
base_runtime_spec = "/etc/containerd/kcm-base-spec.json"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kcm.options]
SystemdCgroup = true
"#;
    assert_eq!(drop_in("version = 3\n", MERGED, &HANDLERS).unwrap(), expected);
    // A main file of an older version, and a containerd whose own is a later one.
    let merged = MERGED.replace("version = 3", "version = 4");
    let older = expected.replace("version = 3", "version = 2");
    let older = older.replace("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri");
    assert_eq!(drop_in("version = 2\n", &merged, &HANDLERS).unwrap(), older);
    assert!(drop_in("version = 5\n", &merged, &HANDLERS).is_err());
    let with_default = drop_in("version = 3\n", MERGED, &WITH_DEFAULT).unwrap();
    assert!(with_default.contains("runtimes.runc]\n"), "{with_default}");
    assert_eq!(with_default.matches("base_runtime_spec = \"/etc/").count(), 2);
}

#[test]
fn the_drop_in_is_imported_once() {
    let drop_in = "/etc/containerd/conf.d/50-kcm.toml";
    for (config, expected) in [
        ("version = 3\n", "version = 3\nimports = [\"/etc/containerd/conf.d/50-kcm.toml\"]\n"),
        (
            "version = 3 # x\nimports = [\"/a.toml\"]\n[grpc]\nuid = 0\n",
            "version = 3 # x\nimports = [\"/a.toml\", \"/etc/containerd/conf.d/50-kcm.toml\"]\n\
             [grpc]\nuid = 0\n",
        ),
        (
            "imports = [\"/etc/containerd/conf.d/*.toml\"]\n",
            "imports = [\"/etc/containerd/conf.d/*.toml\"]\n",
        ),
    ] {
        let once = import(config, drop_in).unwrap();
        assert_eq!(once, expected);
        assert_eq!(import(&once, drop_in).unwrap(), once);
        assert_eq!(remove_import(&once, drop_in).unwrap(), config);
    }
}

#[test]
fn what_cannot_be_edited_is_refused() {
    let runtimes = "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes = 1\n";
    let ours =
        "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"kcm\"\n";
    for (config, part) in [
        ("version = ", "does not parse"),
        ("", "config migrate"),
        ("version = 1\n", "config migrate"),
        ("version = \"2\"\n", "config migrate"),
        ("version = 2\nplugins = 1\n", "plugins is no table"),
        (&format!("version = 2\n{runtimes}"), "runtimes is no table"),
        (&format!("version = 2\n{ours}"), "default_runtime_name is \"kcm\""),
    ] {
        let refusal = add(config, &HANDLERS).unwrap_err().to_string();
        assert!(refusal.contains(part), "{config}: {refusal}");
    }
}

/// Pieces of configurations, in every way in which a table may be written.
const PIECES: [&str; 14] = [
    "# a comment\n",
    "root = \"/data\" # fast\n",
    "imports = [\"/a.toml\",\n  \"/b.toml\"]\n",
    "[plugins]\n",
    "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n",
    "[plugins.'io.containerd.grpc.v1.cri'.containerd]\n  default_runtime_name = \"crun\"\n",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes]\n",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"r\" # r\n",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\noptions = { SystemdCgroup = true }\n",
    "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\tSystemdCgroup = true\n",
    "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = []\n",
    "[metrics]\n  address = \"\"\n",
    "\n\n",
    "[proxy_plugins.x]\n",
];

proptest::proptest! {
    #[test]
    fn any_text_is_edited_or_refused_and_edited_once(text in ".*") {
        for handlers in [HANDLERS, WITH_DEFAULT] {
            if let Ok(once) = add(&text, &handlers) {
                proptest::prop_assert_eq!(&add(&once, &handlers).unwrap(), &once);
            }
        }
        let _ = (import(&text, "/x.toml"), remove(&text, "/x", None), own_base_spec(&text));
    }

    #[test]
    fn whatever_a_configuration_is_made_of_its_lines_stay_and_the_handler_is_there(
        pieces in proptest::sample::subsequence(PIECES.to_vec(), 0..PIECES.len()),
        last in proptest::bool::ANY,
    ) {
        let mut config = format!("version = 2\n{}", pieces.concat());
        if last {
            config = config.trim_end().to_owned();
        }
        let edited = add(&config, &HANDLERS).unwrap();
        proptest::prop_assert!(has_handler(&edited, HANDLERS.base_spec).unwrap(), "{}", edited);
        // Of a name that is quoted in two ways, each table's header comes to have the first.
        let quoted = |line: &str| line.replace('\'', "\"");
        let mut lines: Vec<String> = edited.lines().map(quoted).collect();
        for line in config.lines().filter(|line| !line.trim().is_empty()) {
            let found = lines.iter().position(|other| *other == quoted(line));
            proptest::prop_assert!(found.is_some(), "{line:?} is not in {edited}");
            lines.remove(found.unwrap());
        }
        proptest::prop_assert_eq!(&add(&edited, &HANDLERS).unwrap(), &edited);
        let without = remove(&edited, HANDLERS.base_spec, Some(&config)).unwrap();
        proptest::prop_assert!(!without.contains("kcm"), "{}", without);
        let imported = import(&config, "/x/kcm.toml").unwrap();
        proptest::prop_assert_eq!(import(&imported, "/x/kcm.toml").unwrap(), imported);
    }
}

#[test]
fn which_base_spec_a_handler_has_is_told_of_all_files_and_the_last_decides() {
    let spec = HANDLERS.base_spec;
    let specs = |files: &[&str]| {
        base_specs(files).unwrap().map(|spec| spec.map_or("none".to_owned(), |spec| spec))
    };
    assert_eq!(specs(&[DEBIAN]), ["none", "none"]);
    assert_eq!(specs(&[&add(USERS, &HANDLERS).unwrap()]), [spec, "none"]);
    assert_eq!(specs(&[&add(USERS, &WITH_DEFAULT).unwrap()]), [spec, spec]);
    // A drop-in names no default handler: the main file does.
    let main = "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd]\n\
                default_runtime_name = \"crun\"\n";
    for (handlers, default) in [(HANDLERS, "none"), (WITH_DEFAULT, spec)] {
        let drop_in = drop_in(main, main, &handlers).unwrap();
        assert_eq!(specs(&[main, &drop_in]), [spec, default]);
        assert_eq!(specs(&[main]), ["none", "none"]);
        let own = format!(
            "{main}[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.crun]\n\
             base_runtime_spec = \"/own.json\"\n"
        );
        let default = if default == "none" { "/own.json" } else { default };
        assert_eq!(specs(&[&own, &drop_in]), [spec, default]);
    }
    for wrong in ["version = ", "version = 1\n", ""] {
        assert!(base_specs(&[USERS, wrong]).is_err(), "{wrong:?}");
    }
}
