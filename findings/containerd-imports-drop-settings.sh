#!/usr/bin/env bash
# One would guess: a drop-in that containerd's config.toml names under `imports` adds its tables to those of the main
# file, as drop-ins do elsewhere: who adds one runtime handler in it adds one runtime handler.
# What happens: in containerd 1.x the drop-in's [plugins."io.containerd.grpc.v1.cri"] takes the place of the main file's
# whole. The main file's runtime with its SystemdCgroup = true is gone, the sandbox image is the built-in default, and
# nothing says so. The same lines in one file give all of it.
# Version: containerd 1.6.20 (Debian 12). 2.3.4 merges the tables (seen on a cluster, not run here).
# Seen: when a handler was to be added beside what a node's owner has set.
# What follows: on containerd 1.x a drop-in that adds a handler has to repeat all of the plugin's settings, or the handler
# goes into the main file. `containerd config dump` shows what holds.
# Needs no daemon. Leaves nothing behind.
set -euo pipefail

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -q containerd=1.6.20~ds1-1+deb12u3 >/dev/null 2>&1
dpkg-deb -x ./*.deb root
containerd=$tmp/root/usr/bin/containerd
"$containerd" --version | tee version
grep -qF ' 1.6.20' version

cri='plugins."io.containerd.grpc.v1.cri"'
cat >settings <<TOML
[$cri]
  sandbox_image = "images.example/pause:1"
[$cri.containerd.runtimes.first]
  runtime_type = "io.containerd.runc.v2"
[$cri.containerd.runtimes.first.options]
  SystemdCgroup = true
TOML
cat >addition <<TOML
[$cri.containerd.runtimes.second]
  runtime_type = "io.containerd.runc.v2"
TOML
{ echo 'version = 2' && cat settings addition; } >one.toml
{ echo 'version = 2' && cat addition; } >drop-in.toml
{ echo 'version = 2' && echo "imports = [\"$tmp/drop-in.toml\"]" && cat settings; } >main.toml

# holds FILE - what holds of the settings above.
holds() {
    "$containerd" --config "$1" config dump | sed -nE \
        -e 's/^ *(SystemdCgroup = true)$/\1/p' \
        -e 's/^ *sandbox_image = ("images\.example.*)$/the sandbox image \1/p' \
        -e 's/^ *\[.*\.runtimes\.([a-z]+)\]$/runtime \1/p' | sort
}
echo 'In one file:' && holds one.toml | sed 's/^/  /'
echo 'In a main file and a drop-in:' && holds main.toml | sed 's/^/  /'
[[ $(holds one.toml | wc -l) == 4 && $(holds main.toml) == 'runtime second' ]]
