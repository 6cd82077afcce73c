//! What becomes of pods is for the test to say. The ways that were recorded are in the replay; these
//! are the others.

use kcm_tests::api_server::{ApiServer, Ask, Outcome};
use serde_json::{Value, json};

use crate::{PODS, message, new_pod, pod};

/// A cluster of one node where every pod comes to this.
fn cluster(outcome: Outcome) -> ApiServer {
    let api = ApiServer::start();
    api.add_node("n");
    api.kubelet(move |_| outcome.clone());
    api
}

fn status(api: &ApiServer, name: &str) -> Value {
    api.settle();
    api.get(&format!("{PODS}/{name}")).unwrap()["status"].clone()
}

#[test]
fn pods_end_as_the_test_says() {
    let waiting = "/containerStatuses/0/state/waiting/reason";
    let cases = [
        (
            Outcome::Succeeds,
            "Succeeded",
            "/containerStatuses/0/state/terminated/reason",
            "Completed",
        ),
        (Outcome::Hangs, "Pending", waiting, "ContainerCreating"),
        (Outcome::ImageMissing, "Pending", waiting, "ImagePullBackOff"),
        (
            Outcome::StartFails { container: "c".into(), message: "the hook says no".into() },
            "Failed",
            "/containerStatuses/0/state/terminated/message",
            "the hook says no",
        ),
        (
            Outcome::CrashLoops { code: 1, log: String::new() },
            "Running",
            waiting,
            "CrashLoopBackOff",
        ),
    ];
    for (outcome, phase, place, reason) in cases {
        let api = cluster(outcome.clone());
        let mut pod = pod("a");
        if matches!(outcome, Outcome::CrashLoops { .. }) {
            pod["spec"]["restartPolicy"] = "Always".into();
        }
        api.create(PODS, pod);
        let mut seen = status(&api, "a");
        for _ in 0..2000 {
            if seen.pointer(place) == Some(&reason.into()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            seen = status(&api, "a");
        }
        assert_eq!(seen["phase"], phase, "{outcome:?}: {seen}");
        assert_eq!(seen.pointer(place), Some(&reason.into()), "{outcome:?}: {seen}");
    }
}

#[test]
fn a_pod_that_vanishes_has_run() {
    let api = cluster(Outcome::Vanishes);
    api.send(&new_pod("a")).unwrap();
    api.settle();
    assert_eq!(api.get(&format!("{PODS}/a")), None);
    let watch = api.send(&Ask::get(&format!("{PODS}?watch=1&resourceVersion=1&timeoutSeconds=1")));
    let events = watch.unwrap().events();
    assert!(events.iter().any(|event| event["object"]["status"]["phase"] == "Running"));
    assert_eq!(events.last().unwrap()["type"], "DELETED");
}

#[test]
fn an_init_container_that_fails_in_a_pod_that_is_restarted_crashes_again_and_again() {
    let api = cluster(Outcome::Fails { container: "i".into(), code: 3, log: "no\n".into() });
    let mut pod = pod("a");
    pod["spec"]["restartPolicy"] = "Always".into();
    pod["spec"]["initContainers"] = json!([{"name": "i", "image": "kcm:1"}]);
    api.create(PODS, pod);
    let reason = "/initContainerStatuses/0/state/waiting/reason";
    for _ in 0..2000 {
        if status(&api, "a").pointer(reason) == Some(&"CrashLoopBackOff".into()) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let seen = status(&api, "a");
    assert_eq!(seen.pointer(reason), Some(&"CrashLoopBackOff".into()), "{seen}");
    assert_eq!(seen["phase"], "Pending");
    let log = api.send(&Ask::get(&format!("{PODS}/a/log?container=i"))).unwrap();
    assert_eq!(log.text, "no\n");
    let previous = api.send(&Ask::get(&format!("{PODS}/a/log?container=i&previous=true"))).unwrap();
    assert_eq!((previous.status, previous.text.as_str()), (200, "no\n"));
}

#[test]
fn init_containers_run_one_after_the_other_and_before_the_others() {
    let api = cluster(Outcome::Runs);
    let mut pod = pod("a");
    pod["spec"]["initContainers"] =
        json!([{"name": "i", "image": "kcm:1"}, {"name": "j", "image": "kcm:1"}]);
    api.create(PODS, pod);
    api.settle();
    let watch = api.send(&Ask::get(&format!("{PODS}?watch=1&resourceVersion=1&timeoutSeconds=1")));
    let states = |event: &Value| {
        let status = &event["object"]["status"];
        let lists = ["initContainerStatuses", "containerStatuses"];
        let all = lists.iter().flat_map(|list| status[list].as_array().into_iter().flatten());
        let state =
            |container: &Value| container["state"].as_object().unwrap().keys().next().cloned();
        all.filter_map(state).collect::<Vec<_>>().join(" ")
    };
    let mut seen: Vec<String> = watch.unwrap().events().iter().map(states).collect();
    seen.dedup();
    let expected = [
        "",
        "waiting waiting waiting",
        "running waiting waiting",
        "terminated running waiting",
        "terminated terminated running",
    ];
    assert_eq!(seen, expected);
    assert_eq!(status(&api, "a")["phase"], "Running");
}

#[test]
fn only_the_last_lines_of_a_log_are_given_when_asked() {
    let log = "1\n2\n3\n".to_owned();
    let api = cluster(Outcome::Fails { container: "c".into(), code: 1, log });
    api.send(&new_pod("a")).unwrap();
    api.settle();
    let tail = api.send(&Ask::get(&format!("{PODS}/a/log?tailLines=2"))).unwrap();
    assert_eq!(tail.text, "2\n3\n");
    let previous = api.send(&Ask::get(&format!("{PODS}/a/log?previous=true"))).unwrap();
    assert_eq!(previous.status, 400);
    assert_eq!(message(&previous), "previous terminated container \"c\" in pod \"a\" not found");
}

#[test]
fn a_container_that_runs_has_the_log_that_the_test_gives_it() {
    let api = cluster(Outcome::Runs);
    api.send(&new_pod("a")).unwrap();
    api.settle();
    api.write_log(&format!("{PODS}/a"), "c", "ready\n");
    assert_eq!(api.send(&Ask::get(&format!("{PODS}/a/log"))).unwrap().text, "ready\n");
}

#[test]
fn a_pod_with_an_unknown_service_account_or_runtime_class_is_forbidden() {
    let api = cluster(Outcome::Runs);
    let cases = [
        (
            "serviceAccountName",
            "pods \"a\" is forbidden: error looking up service account default/kcm: \
          serviceaccount \"kcm\" not found",
        ),
        (
            "runtimeClassName",
            "pods \"a\" is forbidden: pod rejected: RuntimeClass \"kcm\" not found",
        ),
    ];
    for (field, expected) in cases {
        let mut ask = new_pod("a");
        ask.body.as_mut().unwrap()["spec"][field] = "kcm".into();
        let reply = api.send(&ask).unwrap();
        assert_eq!((reply.status, message(&reply).as_str()), (403, expected));
    }
}

#[test]
fn what_no_pod_could_come_to_fails_the_test() {
    let api = cluster(Outcome::Fails { container: "nosuch".into(), code: 1, log: String::new() });
    api.send(&new_pod("a")).unwrap();
    api.settle();
    assert!(api.complaints()[0].contains("no container nosuch"), "{:?}", api.complaints());
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(api)));
    assert!(dropped.is_err());
}
