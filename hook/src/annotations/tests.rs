use super::*;
use crate::identity::Caller;
use kcm_core::allocation::Details;
use proptest::prelude::*;

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn container(name: Option<&str>, caller: Caller) -> Identity {
    let details = Details { container: name.map(str::to_owned), ..Details::default() };
    Identity { details, caller, ..Identity::default() }
}

fn asked(pairs: &[(&str, &str)], name: Option<&str>) -> String {
    match wish(&annotations(pairs), &container(name, Caller::Containerd)) {
        Ok(Wish::Pool { pool, cores, key, .. }) => format!("{pool} {cores} by {key}"),
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("{error:#}"),
    }
}

const POD: (&str, &str) = ("kcm.intel.com/pool", "shared");
const OWN: (&str, &str) = ("kcm.intel.com/pool.web", "dataplane");
const OWN_CORES: (&str, &str) = ("kcm.intel.com/cores.web", "2");
const PODS_CORES: (&str, &str) = ("kcm.intel.com/cores", "3");
const OWN_KIND: (&str, &str) = ("kcm.intel.com/partition.web", "isolated");
const PODS_KIND: (&str, &str) = ("kcm.intel.com/partition", "none");
const WEB: Option<&str> = Some("web");
const DB: Option<&str> = Some("db");

#[test]
fn a_containers_own_entry_goes_before_its_pods() {
    for (pairs, container, expected) in [
        (vec![], WEB, "Unspoken"),
        (vec![], None, "Unspoken"),
        (vec![POD], None, "shared 1 by kcm.intel.com/pool"),
        (vec![POD], WEB, "shared 1 by kcm.intel.com/pool"),
        (vec![POD, OWN], WEB, "dataplane 1 by kcm.intel.com/pool.web"),
        (vec![POD, OWN], DB, "shared 1 by kcm.intel.com/pool"),
        (vec![OWN], DB, "Unspoken"),
        (vec![POD, ("kcm.intel.com/pool.web", "none")], WEB, "None"),
        (vec![POD, PODS_CORES], WEB, "shared 3 by kcm.intel.com/pool"),
        (vec![OWN, PODS_CORES, OWN_CORES], WEB, "dataplane 2 by kcm.intel.com/pool.web"),
    ] {
        assert_eq!(asked(&pairs, container), expected, "{pairs:?}");
    }
}

#[test]
fn cores_with_nothing_to_take_them_from_are_refused_and_those_of_others_are_not_judged() {
    let own = "annotation kcm.intel.com/cores.web is \"2\" means nothing for a container without a \
               pool: name its pool (kcm.intel.com/pool.<container>), or leave it out";
    let pods = "annotation kcm.intel.com/cores is \"3\" means nothing in a pod without a pool: \
                name one (kcm.intel.com/pool), or leave it out";
    for (pairs, container, expected) in [
        (vec![OWN_CORES], WEB, own),
        (vec![OWN_CORES, ("kcm.intel.com/pool.db", "dataplane")], WEB, own),
        (vec![OWN_CORES, ("kcm.intel.com/pool", "none")], WEB, own),
        (vec![OWN_CORES, POD, ("kcm.intel.com/pool.web", "none")], WEB, own),
        (vec![OWN_CORES], DB, "Unspoken"),
        (vec![("kcm.intel.com/cores.web", "many")], DB, "Unspoken"),
        (vec![("kcm.intel.com/pool.web", "../x")], DB, "Unspoken"),
        (vec![PODS_CORES], WEB, pods),
        (vec![PODS_CORES], None, pods),
        (vec![PODS_CORES, OWN_CORES], DB, pods),
        (vec![PODS_CORES, OWN], DB, "Unspoken"),
        (vec![PODS_CORES, ("kcm.intel.com/pool", "none")], WEB, "None"),
    ] {
        assert_eq!(asked(&pairs, container), expected, "{pairs:?}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_keys_that_there_are() {
    for slip in [
        "pol",
        "",
        "Pool",
        "pools",
        "pool.",
        "cores.",
        "poolweb",
        "core",
        "numa",
        "partitions",
        "partition.",
        "pool/web",
        "cpus.web",
    ] {
        let key = format!("kcm.intel.com/{slip}");
        let expected = format!(
            "unknown annotation {key}: kcm knows kcm.intel.com/pool, cores and partition, each also \
             with .<container> after it"
        );
        for container in [WEB, None] {
            assert_eq!(asked(&[(&key, "dataplane"), POD], container), expected);
        }
    }
    for others in
        ["kcm.intel.comx/pol", "kcm.intel.com.x/pol", "a", "kcm.intel.com", "z/kcm.intel.com/pol"]
    {
        assert_eq!(asked(&[(others, "dataplane")], WEB), "Unspoken", "{others}");
    }
}

#[test]
fn an_entry_for_a_name_is_refused_where_the_containers_name_is_not_known() {
    for (caller, reason) in [
        (Caller::Podman, "podman does not tell a hook how its containers are named: use "),
        (Caller::Unclear, "annotations of several engines contradict each other (leave out "),
        (Caller::Bare, "no engine has told how this container is named: use "),
    ] {
        for (entry, remedy) in [
            (OWN, "kcm.intel.com/pool"),
            (OWN_CORES, "kcm.intel.com/cores"),
            (OWN_KIND, "kcm.intel.com/partition"),
        ] {
            let text = wish(&annotations(&[entry, POD]), &container(None, caller));
            let text = text.unwrap_err().to_string();
            let begins = format!(
                "annotation {} is {:?} is for the container \"web\", and {reason}",
                entry.0, entry.1
            );
            assert!(
                text.starts_with(&begins) && text.ends_with(&format!(": use {remedy}")),
                "{text}"
            );
        }
    }
}

#[test]
fn malformed_values_are_refused_with_key_and_value() {
    for value in ["", "../x", "a b", "a\nb", "NONE/"] {
        let text = asked(&[("kcm.intel.com/pool", value)], None);
        assert!(text.starts_with(&format!("annotation kcm.intel.com/pool is {value:?}")), "{text}");
    }
    for value in ["0", "-1", "1.5", "", "x", "+2", "99999999999999999999", "10000", "01", "00"] {
        let pairs = [("kcm.intel.com/pool", "p"), ("kcm.intel.com/cores", value)];
        let text = asked(&pairs, None);
        assert!(
            text.starts_with(&format!("annotation kcm.intel.com/cores is {value:?}")),
            "{text}"
        );
    }
}

#[test]
fn a_message_is_short_and_plain_whatever_an_author_wrote() {
    for hostile in ["x".repeat(100_000), "\u{202e}\u{2028}\n\u{1b}".repeat(1000)] {
        for (key, value) in [
            (format!("kcm.intel.com/{hostile}"), "1"),
            ("kcm.intel.com/pool".to_owned(), hostile.as_str()),
            (format!("kcm.intel.com/pool.{hostile}"), hostile.as_str()),
        ] {
            let text = asked(&[(&key, value)], None);
            assert!(text.len() < 4000, "{}", text.len());
            assert!(!text.contains(['\u{202e}', '\u{2028}', '\n', '\u{1b}']), "{text}");
        }
    }
}

#[test]
fn what_is_for_exclusive_pools_alone_is_told_apart_from_what_is_for_the_whole_pod() {
    let exclusive_only =
        |pairs: &[(&str, &str)]| match wish(&annotations(pairs), &container(WEB, Caller::Crio))
            .unwrap()
        {
            Wish::Pool { exclusive_only, .. } => exclusive_only,
            other => panic!("{other:?}"),
        };
    assert_eq!(exclusive_only(&[POD, PODS_CORES, PODS_KIND]), None);
    let own = "kcm.intel.com/cores.web is \"2\"";
    assert_eq!(exclusive_only(&[POD, PODS_CORES, OWN_CORES, OWN_KIND]).as_deref(), Some(own));
    let kind = "kcm.intel.com/partition.web is \"isolated\"";
    assert_eq!(exclusive_only(&[POD, PODS_CORES, OWN_KIND]).as_deref(), Some(kind));
    let pool = "p".parse().unwrap();
    assert!(refuse_in_shared(own, &pool, true).is_ok());
    assert_eq!(
        refuse_in_shared(own, &pool, false).unwrap_err().to_string(),
        format!(
            "annotation {own} means nothing in pool p, which is shared: choose an exclusive pool, or \
             leave it out"
        )
    );
}

#[test]
fn a_containers_own_partition_goes_before_its_pods_and_means_nothing_without_a_pool() {
    let asked_for = |pairs: &[(&str, &str)], name| match wish(
        &annotations(pairs),
        &container(name, Caller::Containerd),
    ) {
        Ok(Wish::Pool { partition, .. }) => {
            partition.map_or_else(|| "nothing".to_owned(), |choice| choice.to_string())
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("{error:#}"),
    };
    let own = "annotation kcm.intel.com/partition.web is \"isolated\" means nothing for a container \
               without a pool: name its pool (kcm.intel.com/pool.<container>), or leave it out";
    let pods = "annotation kcm.intel.com/partition is \"none\" means nothing in a pod without a pool: \
                name one (kcm.intel.com/pool), or leave it out";
    for (pairs, name, expected) in [
        (vec![POD], WEB, "nothing"),
        (vec![POD, PODS_KIND], WEB, "none"),
        (vec![POD, PODS_KIND, OWN_KIND], WEB, "isolated"),
        (vec![POD, PODS_KIND, OWN_KIND], DB, "none"),
        (vec![OWN_KIND], WEB, own),
        (vec![OWN_KIND], DB, "Unspoken"),
        (vec![PODS_KIND], DB, pods),
        (vec![PODS_KIND, OWN], DB, "Unspoken"),
    ] {
        assert_eq!(asked_for(&pairs, name), expected, "{pairs:?}");
    }
    for value in ["", "Root", "root required", "member", "root\n"] {
        let text = asked_for(&[POD, ("kcm.intel.com/partition", value)], WEB);
        let begins = format!("annotation kcm.intel.com/partition is {value:?}: ");
        assert!(text.starts_with(&begins) && text.contains("none, root, isolated"), "{text}");
    }
}

#[test]
fn any_pool_key_is_a_mention() {
    for (key, expected) in [
        ("kcm.intel.com/pool", true),
        ("kcm.intel.com/pool.web", true),
        ("kcm.intel.com/cores", false),
        ("zzz", false),
    ] {
        assert_eq!(mentions_pool(&annotations(&[("a", "b"), (key, "x")])), expected, "{key}");
    }
}

proptest! {
    #[test]
    fn any_annotations_are_read_or_refused_without_a_panic(
        pool in ".{0,70}", cores in ".{0,30}", name in ".{0,70}", key in ".{0,30}",
    ) {
        let own = format!("kcm.intel.com/pool.{name}");
        let other = format!("kcm.intel.com/{key}");
        let pairs = [
            (own.as_str(), pool.as_str()),
            ("kcm.intel.com/cores", cores.as_str()),
            (other.as_str(), "1"),
        ];
        for pairs in [&pairs[..2], &pairs[..]] {
            let _ = wish(&annotations(pairs), &container(Some(&name), Caller::Crio));
        }
    }
}
