//! The policy on new pods and the hook on a node are of one opinion of annotations.

use kcm_tests::admission::{Review, defaulted};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use serde_json::{Map, Value, json};

use super::cases::{Case, created, pod};
use super::overlay::overlay;

/// What the policy alone can see: the whole pod, what the scheduler counts, and how it is to run.
const POLICY_ALONE: [&str; 4] = [
    "must both have kcm.intel.com/",
    "for every container of the pod",
    "need runtimeClassName",
    "names a container that the pod does not have",
];

/// The names of all containers of a pod.
fn names(pod: &Value) -> Vec<&str> {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array());
    let all = lists.into_iter().flatten().flatten();
    all.map(|container| container["name"].as_str().unwrap()).collect()
}

/// What the hook says of a container's annotations; none where it takes them. Its process does not
/// exist, so that nothing is allocated: an annotation is refused before that is found out.
fn refusal(conf: &ConfDir, pod: &Value, name: &str) -> Option<String> {
    let empty = Map::new();
    let mut annotations = pod["metadata"]["annotations"].as_object().unwrap_or(&empty).clone();
    annotations.extend([
        ("io.kubernetes.cri.container-type".to_owned(), json!("container")),
        ("io.kubernetes.cri.container-name".to_owned(), json!(name)),
    ]);
    let state = json!({
        "ociVersion": "1.0.2", "id": name, "status": "creating", "pid": 0, "annotations": annotations,
    });
    let ran = HookCall::with_input(conf.path(), "createRuntime", state.to_string()).run();
    assert!(ran.succeeded() || !ran.stderr.is_empty(), "{ran:?}");
    ran.stderr.contains("annotation").then_some(ran.stderr)
}

#[test]
fn what_the_policy_refuses_of_annotations_the_hook_refuses_and_nothing_else() {
    let conf = ConfDir::new(&[("dataplane", true, &["0"]), ("infra", false, &["1"])]);
    let overlay = overlay("containerd");
    let policy = overlay.validating("kcm-pools");
    let mut counts = [0; 3];
    for Case { about, mut review, .. } in created() {
        review.params = Some(overlay.params());
        let verdict = policy.review(&review);
        let pod = &review.object;
        let refused: Vec<_> =
            names(pod).into_iter().filter_map(|name| refusal(&conf, pod, name)).collect();
        // To the policy an entry for a container that is not there, to the hook no known key.
        let is_nobodys = about.starts_with("a container without a name");
        let is_alone = |message: &str| POLICY_ALONE.iter().any(|part| message.contains(part));
        let kind = match &verdict {
            Ok(()) => 0,
            Err(message) if is_alone(message) && !is_nobodys => 1,
            Err(_) => 2,
        };
        counts[kind] += 1;
        assert_eq!(refused.is_empty(), kind != 2, "{about}: {verdict:?}, {refused:?}");
    }
    assert!(counts.iter().all(|&count| count > 10), "{counts:?}");
}

/// Each mix of these values, of each key one or none.
fn mixes<'a>(keys: &[(&'a str, &[&'a str])]) -> Vec<Vec<(&'a str, &'a str)>> {
    keys.iter().fold(vec![Vec::new()], |mixes, (key, values)| {
        let with = |mix: &Vec<_>| {
            let added = values.iter().map(|value| [mix.clone(), vec![(*key, *value)]].concat());
            std::iter::once(mix.clone()).chain(added).collect::<Vec<_>>()
        };
        mixes.iter().flat_map(with).collect()
    })
}

#[test]
fn they_are_of_one_opinion_of_every_mix_of_the_keys() {
    let conf = ConfDir::new(&[("dataplane", true, &["0"]), ("infra", false, &["1"])]);
    let overlay = overlay("containerd");
    let policy = overlay.validating("kcm-pools");
    let mut counts = [0; 2];
    for mix in mixes(&[
        ("pool", &["infra", "none", "dataplane"]),
        ("pool.c", &["infra", "none", "dataplane"]),
        ("cores", &["2"]),
        ("cores.c", &["2"]),
        ("partition", &["isolated", "rot"]),
        ("partition.c", &["none", "root required"]),
    ]) {
        let pod = defaulted(&pod(&mix, &["c 1", "d"]));
        let mut review = Review::create("pods", pod.clone());
        review.params = Some(overlay.params());
        let of_annotations =
            |message: &String| !POLICY_ALONE.iter().any(|part| message.contains(part));
        let policys = policy.review(&review).err().filter(of_annotations);
        let hooks: Vec<String> =
            ["c", "d"].iter().filter_map(|name| refusal(&conf, &pod, name)).collect();
        // A malformed value is judged by the hook where it concerns a container, by the policy anywhere.
        let said = |key: &str| mix.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
        let is_in_a_pool = |own: Option<&str>| own.or(said("pool")).unwrap_or("none") != "none";
        let concerns_c = is_in_a_pool(said("pool.c")) && said("partition.c").is_none();
        let is_idle = said("partition") == Some("rot") && !concerns_c && !is_in_a_pool(None);
        let is_malformed = policys.as_ref().is_some_and(|message| message.contains("\"rot\""));
        if !(is_idle && is_malformed) {
            assert_eq!(policys.is_some(), !hooks.is_empty(), "{mix:?}: {policys:?}, {hooks:?}");
        }
        counts[usize::from(policys.is_some())] += 1;
    }
    assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
}
