//! Where a process belongs: the container or systemd's unit that its cgroup is.

/// The container (the first 12 characters of its id, as engines show it) or the unit, else the cgroup
/// itself; none for a process that is in no cgroup but roots. From `/proc/<pid>/cgroup`.
pub(super) fn of(proc_cgroup: &str) -> Option<String> {
    let path = path(proc_cgroup)?;
    let parts = || path.rsplit('/').filter(|part| !part.is_empty());
    let container = parts().find_map(container);
    let unit = || parts().find(|part| is_unit(part)).map(str::to_owned);
    container.or_else(unit).or_else(|| Some(path.to_owned()))
}

/// The path in the hierarchy that tells most: cgroup v2's, that of systemd, that of cpusets.
pub(super) fn path(proc_cgroup: &str) -> Option<&str> {
    let lines = || proc_cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of = |is_it: fn(&str) -> bool| {
        lines().find(|(controllers, path)| is_it(controllers) && *path != "/").map(|(_, path)| path)
    };
    of(str::is_empty)
        .or_else(|| of(|controllers| controllers == "name=systemd"))
        .or_else(|| of(|controllers| controllers.split(',').any(|name| name == "cpuset")))
        .or_else(|| of(|_| true))
}

/// `libpod-ID.scope`, `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, or the id alone;
/// not the engine's own processes beside it.
fn container(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (engine, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    (is_id && !engine.ends_with("conmon")).then(|| format!("container {}", &id[..12]))
}

fn is_unit(part: &str) -> bool {
    [".service", ".scope", ".slice", ".mount", ".socket", ".swap"].iter().any(|s| part.ends_with(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_a_container_or_a_unit_or_a_path() {
        let id = "0123456789abcdef".repeat(4);
        for (cgroup, expected) in [
            ("0::/\n", None),
            ("", None),
            ("no line of a cgroup", None),
            ("0::/init.scope\n", Some("init.scope")),
            ("0::/system.slice/irqbalance.service\n", Some("irqbalance.service")),
            (
                "0::/user.slice/user-0.slice/user@0.service/app.slice/x.service/sub\n",
                Some("x.service"),
            ),
            (&format!("0::/system.slice/docker-{id}.scope"), Some("container 0123456789ab")),
            (
                &format!("0::/machine.slice/libpod-{id}.scope/container"),
                Some("container 0123456789ab"),
            ),
            (
                &format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
                Some("container 0123456789ab"),
            ),
            (
                &format!("0::/machine.slice/libpod-conmon-{id}.scope"),
                Some(&format!("libpod-conmon-{id}.scope")),
            ),
            (&format!("4:memory:/\n3:cpuset:/docker/{id}\n0::/\n"), Some("container 0123456789ab")),
            ("3:cpuset:/kcm-test\n1:name=systemd:/a.service\n0::/\n", Some("a.service")),
            ("4:memory:/m\n3:cpu,cpuset:/isolate-7\n0::/\n", Some("/isolate-7")),
            ("4:memory:/m\n0::/\n", Some("/m")),
        ] {
            assert_eq!(of(cgroup).as_deref(), expected, "{cgroup}");
        }
    }
}
