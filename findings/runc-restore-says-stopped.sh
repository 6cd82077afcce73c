#!/usr/bin/env bash
# One would guess: whenever runc calls createRuntime hooks, the state on their standard input says "creating" or
# "created", as the lifecycle in the runtime specification suggests; and "stopped" means that the container is over.
# What happens: at `runc restore` they get the status "stopped", together with the PID of the process that is being
# restored, and which lives. At `runc run` they get "creating", and poststop hooks get "stopped" without a PID.
# Version: runc 1.1.5 (Debian 12) with CRIU 4.1.1 (Debian 13), on Linux 6.18 with cgroup v1.
# Seen: when restores of pinned containers failed. Earlier and later versions of runc were not looked at.
# What follows: a hook that tells its stage by the status alone takes a restore for the container's end, and releases
# what it should take. "stopped" with a PID is a restore; only without one is it the end.
# Run as root. Leaves nothing behind.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tmp=$(mktemp -d)
id=kcm-finding-$$
export PATH=$PATH:/usr/sbin:/sbin
runc=$tmp/root/usr/sbin/runc

clean() {
    if [[ -x $runc ]]; then "$runc" --root "$tmp/state" delete --force "$id" >/dev/null 2>&1 || true; fi
    rm -rf "$tmp"
}
trap clean EXIT

(
    cd "$tmp"
    for package in runc=1.1.5+ds1-1+deb12u1 busybox-static=1:1.35.0-4+deb12u1+b1; do
        apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null
    done
    for package in ./*.deb; do dpkg-deb -x "$package" root; done
)
criu=$(KCM_CACHE_DIR=$tmp "$here/../tests/criu" 2>/dev/null)
versions=$("$runc" --version && "$criu" --version)
sed -n -e '/^runc version/p' -e 's/^Version:/CRIU/p' <<<"$versions"
if [[ $versions != 'runc version 1.1.5'* || $versions != *'Version: 4.1.1'* ]]; then
    echo 'these are other versions (a CRIU that is installed and works goes before that of Debian 13)' >&2
    exit 1
fi

mkdir -p "$tmp"/bundle/rootfs/{bin,proc,dev} "$tmp/images"
cp "$tmp/root/bin/busybox" "$tmp/bundle/rootfs/bin/"
hook() { echo "{\"path\": \"/bin/sh\", \"args\": [\"sh\", \"-c\", \"cat >>$tmp/$1; echo >>$tmp/$1\"]}"; }
cat >"$tmp/bundle/config.json" <<CONFIG
{
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "args": ["/bin/busybox", "sh", "-c", "exec </dev/null >/dev/null 2>&1; exec /bin/busybox sleep 600"]
    },
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
    ],
    "linux": {
        "cgroupsPath": "/$id",
        "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]
    },
    "hooks": {"createRuntime": [$(hook create)], "poststop": [$(hook poststop)]}
}
CONFIG

runc() { "$runc" --root "$tmp/state" --criu "$criu" "$@" </dev/null; }
images=(--image-path "$tmp/images" --work-path "$tmp/images")
runc run --detach --bundle "$tmp/bundle" "$id" >/dev/null
for _ in {1..100}; do # until it has let go of our standard output
    pid=$(runc state "$id" | sed -n 's/^ *"pid": \([0-9]*\),/\1/p')
    if [[ $(readlink "/proc/$pid/fd/1") == /dev/null && $(tr '\0' ' ' <"/proc/$pid/cmdline") == *'sleep 600 ' ]]; then
        break
    fi
    sleep 0.1
done
runc checkpoint "${images[@]}" "$id"
runc restore --detach --bundle "$tmp/bundle" "${images[@]}" "$id" >/dev/null
now=$(runc state "$id" | sed -n 's/^ *"pid": \([0-9]*\),/\1/p')
runc delete --force "$id"

# told FILE - status and PID of each call.
told() { sed -n 's/.*"status":"\([a-z]*\)".*/& \1/p' "$tmp/$1" | sed -E 's/.*"pid":([0-9]+).* ([a-z]+)$/\2 \1/; t; s/.* ([a-z]+)$/\1 -/'; }
echo "the container's PID: $pid when it was run, $now when it was restored"
echo 'createRuntime hooks were told (status and PID):'
told create
echo 'poststop hooks were told:'
told poststop
[[ $(told create) == "creating $pid"$'\n'"stopped $now" ]]
[[ $(told poststop | sort -u) == 'stopped -' ]]
