//! The manifest has the rights that the commands were seen to need, neither fewer nor more.

use std::collections::BTreeSet;

use super::commands::{all_succeed, cluster};
use super::manifest::{Right, given, needed, objects, with_less, with_more};

/// What the commands need, by what the double has seen of them.
fn seen() -> BTreeSet<Right> {
    let api = cluster();
    all_succeed(&api, api.kubeconfig(), "default");
    needed(&api.requests())
}

fn texts<'a>(rights: impl Iterator<Item = &'a Right>) -> Vec<String> {
    rights.map(Right::to_string).collect()
}

#[test]
fn the_manifest_has_what_the_commands_need_and_nothing_more() {
    let (needed, given) = (seen(), given(&objects()));
    // By hand, lest both sides be wrong in the same way.
    assert_eq!(
        texts(needed.iter()),
        [
            "ClusterRole \"\" nodes get",
            "ClusterRole \"\" nodes patch",
            "ClusterRole \"\" nodes/status patch",
            "Role \"kcm.intel.com\" nodereports create",
            "Role \"kcm.intel.com\" nodereports patch",
            "Role \"kcm.intel.com\" reconcilereports create",
            "Role \"kcm.intel.com\" reconcilereports patch",
        ]
    );
    assert_eq!(texts(needed.difference(&given)), [""; 0], "missing in the manifest");
    assert_eq!(texts(given.difference(&needed)), [""; 0], "nobody needs it");
}

#[test]
fn a_verb_more_or_less_in_the_manifest_is_noticed() {
    let needed = seen();
    let (less, more) = (with_less(), with_more());
    // Five verbs in three rules, of eight that there are.
    assert_eq!((less.len(), more.len()), (5, 19));
    for (what, copy) in less {
        assert_ne!(needed.difference(&given(&copy)).count(), 0, "{what}");
    }
    for (what, copy) in more {
        assert_ne!(given(&copy).difference(&needed).count(), 0, "{what}");
    }
}
