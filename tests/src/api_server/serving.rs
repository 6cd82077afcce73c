//! The way of a request: noted, routed, authenticated, authorised, disturbed by faults, and handled.

use std::time::Duration;

use super::Cluster;
use super::answer::{self, Answer};
use super::cluster::Found;
use super::faults::{self, Fault, What};
use super::handling::Call;
use super::request::{Parts, Seen, Target};
use super::users::Identity;
use super::watching::Watch;
use serde_json::{Value, json};

/// What is sent back.
pub(super) enum Reply {
    Answer(Answer),
    Watch(Box<Watch>),
    /// The connection is closed.
    Nothing,
}

/// The headers that matter.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) token: String,
    pub(super) agent: String,
    pub(super) accept: String,
}

/// Notes a request, and finds what is to be sent back.
pub(super) async fn serve(cluster: &Cluster, mut seen: Seen, headers: &Headers) -> Reply {
    let identity = cluster.lock().tokens.identity(&headers.token);
    name(&mut seen, identity.as_ref());
    let (at, latency) = {
        let mut state = cluster.lock();
        state.requests.push(seen.clone());
        (state.requests.len() - 1, state.latency)
    };
    if latency > Duration::ZERO {
        tokio::time::sleep(latency).await;
    }
    let reply = respond(cluster, &seen, headers, identity).await;
    let status = match &reply {
        Reply::Answer(answer) => answer.code,
        Reply::Watch(_) => 200,
        Reply::Nothing => 0,
    };
    let mut state = cluster.lock();
    state.requests[at].status = status;
    if let (501, Reply::Answer(Answer { body: answer::Content::Json(body), .. })) = (status, &reply)
    {
        let Seen { method, path, content_type, .. } = &seen;
        state.wrong.push(format!("{method} {path} ({content_type}): {}", body["message"]));
    }
    reply
}

/// Fills in what the path names and who asks.
fn name(seen: &mut Seen, identity: Option<&Identity>) {
    let parts = Parts::of(&seen.path).unwrap_or_default();
    let verb = Seen::verb_of(&seen.method, !parts.name.is_empty(), seen.is_set("watch"));
    seen.verb = verb.into();
    seen.user = identity.map(|identity| identity.name().to_owned()).unwrap_or_default();
    seen.group = parts.group;
    seen.resource = parts.resource;
    seen.subresource = parts.subresource;
    seen.namespace = parts.namespace;
    seen.name = parts.name;
}

async fn respond(
    cluster: &Cluster,
    seen: &Seen,
    headers: &Headers,
    identity: Option<Identity>,
) -> Reply {
    if seen.method == "GET" && seen.path == "/version" {
        return Reply::Answer(Answer::json(200, version()));
    }
    let (target, is_there) = match cluster.find(&seen.path) {
        Found::Target(target) => (target, true),
        Found::NoPage(target) => (target, false),
        Found::Unknown => return Reply::Answer(answer::unknown("the path")),
    };
    if let Err(refusal) = known(seen, headers, &target, is_there) {
        return Reply::Answer(refusal);
    }
    let Some(who) = identity else { return Reply::Answer(answer::unauthorized()) };
    if let Err(refusal) = who.authorize(seen, &target, &cluster.lock().store) {
        return Reply::Answer(refusal);
    }
    happen(cluster, seen);
    let fault = inject(cluster, seen);
    match fault {
        Some(What::Status(code, after)) => {
            return Reply::Answer(faults::answer(code, after, &target));
        }
        Some(What::Reset) => return Reply::Nothing,
        Some(What::Hang(how_long)) => tokio::time::sleep(how_long).await,
        _ => {}
    }
    if !is_there {
        return Reply::Answer(Answer::text(404, "404 page not found\n"));
    }
    let agent = headers.agent.split('/').next().unwrap_or_default();
    let call = Call { cluster, seen, target: &target, who: &who, agent };
    if seen.verb != "watch" {
        return Reply::Answer(call.answer());
    }
    let watch = call.check_query().and_then(|()| Watch::new(cluster, seen, &target, fault));
    match watch {
        Ok(watch) => Reply::Watch(Box::new(watch)),
        Err(failure) => Reply::Answer(failure),
    }
}

/// Refuses what is neither recorded nor listed.
fn known(seen: &Seen, headers: &Headers, target: &Target, is_there: bool) -> Result<(), Answer> {
    let operation = seen.operation();
    if is_there && !target.kind.serves(&operation) {
        return Err(answer::unknown(&format!("{operation} of {}", seen.resource)));
    }
    let content = seen.content_type.as_str();
    let fits = match seen.verb.as_str() {
        "create" => content == "application/json",
        "delete" => content.is_empty() || content == "application/json",
        _ => true,
    };
    if !fits {
        return Err(answer::unknown(&format!("the content type {content:?}")));
    }
    let accept = headers.accept.as_str();
    let takes_json = accept.is_empty() || accept.contains("*/*") || accept.contains("json");
    if !takes_json || accept.contains("as=") {
        return Err(answer::unknown(&format!("to accept {accept:?}")));
    }
    Ok(())
}

/// What somebody does just before the request.
fn happen(cluster: &Cluster, seen: &Seen) {
    let due: Vec<_> = {
        let mut state = cluster.lock();
        let before = std::mem::take(&mut state.before);
        let (due, rest) = before.into_iter().partition(|before| (before.on)(seen));
        state.before = rest;
        due
    };
    for before in due {
        (before.edit)(cluster);
    }
}

fn inject(cluster: &Cluster, seen: &Seen) -> Option<What> {
    let mut state = cluster.lock();
    let fault = Fault::next(&mut state.faults, seen)?;
    state.injected += 1;
    Some(fault)
}

/// What was recorded of `/version`.
fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.2",
        "gitCommit": "98b35193b2ac7a23a673325f5e9b830ecd5ba406", "gitTreeState": "clean",
        "buildDate": "2026-08-21T00:00:00Z", "goVersion": "go1.26.6", "compiler": "gc",
        "platform": "linux/amd64",
    })
}
