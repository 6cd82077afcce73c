//! `pods/log`.

use serde_json::Value;

use super::answer::{self, Answer};
use super::handling::Call;

/// What a container has written, or why there is nothing.
pub(super) fn log(call: &Call<'_>) -> Result<Answer, Answer> {
    let pod = call.cluster.object(&call.key()).ok_or_else(|| call.not_found())?;
    let name = &call.target.name;
    let container = match call.seen.parameter("container").filter(|name| !name.is_empty()) {
        Some(container) => container.to_owned(),
        None => only_container(&pod, name)?,
    };
    if !names(&pod, "containers").chain(names(&pod, "initContainers")).any(|n| n == container) {
        let message = format!("container {container} is not valid for pod {name}");
        return Err(answer::bad_request(&message));
    }
    let status = ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .find(|status| status["name"] == container.as_str());
    let Some(status) = status else {
        return Err(answer::bad_request(&format!("pod {name} does not have a host assigned")));
    };
    let has_ended_before = status["lastState"]["terminated"].is_object();
    if call.seen.is_set("previous") && !has_ended_before {
        let message =
            format!("previous terminated container {container:?} in pod {name:?} not found");
        return Err(answer::bad_request(&message));
    }
    if let Some(reason) = status["state"]["waiting"]["reason"].as_str()
        && !has_ended_before
    {
        let message =
            format!("container {container:?} in pod {name:?} is waiting to start: {reason}");
        return Err(answer::bad_request(&message));
    }
    let text = call.cluster.log(&call.key(), &container).unwrap_or_default();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let tail = call.seen.parameter("tailLines").map(|number| number.parse::<usize>());
    let tail = tail.transpose().map_err(|_| answer::unknown("tailLines"))?.unwrap_or(lines.len());
    let from = lines.len().saturating_sub(tail);
    Ok(Answer::text(200, &lines[from..].concat()))
}

fn names<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let list = pod["spec"][list].as_array().into_iter().flatten();
    list.filter_map(|container| container["name"].as_str())
}

fn only_container(pod: &Value, name: &str) -> Result<String, Answer> {
    let all: Vec<&str> = names(pod, "containers").collect();
    match all.as_slice() {
        [only] => Ok((*only).to_owned()),
        _ => Err(answer::bad_request(&format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}
