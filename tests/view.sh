# shellcheck shell=bash
# Sourced by apart and lived-in: covering folders of the machine in a mount namespace of one's own.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# kept COMMAND - prints the folders that have to stay where they are, for COMMAND to be run and to work:
# this repository, what is built, temporary files, tools.
kept() {
    local path
    for path in "$here" "${TMPDIR:-/tmp}" "${CARGO_TARGET_DIR:-}" "${KCM_TEST_BIN_DIR:-}" \
        "${KCM_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kcm}" "$(dirname "$1")"; do
        if [[ -d $path ]]; then (cd "$path" && pwd -P); fi
    done
}

# cover FOLDER KEPT... - mounts an empty folder on it, with those KEPT that are below it.
cover() {
    local folder=$1 path fd
    local -A open=()
    shift
    for path in "$@"; do
        if [[ $path/ == "$folder"/* ]]; then
            exec {fd}<"$path"
            open[$path]=$fd
        fi
    done
    mount -n -t tmpfs -o mode=755 view "$folder"
    for path in "${!open[@]}"; do
        fd=${open[$path]}
        mkdir -p "$path"
        # Not canonicalized: the name that the descriptor has is by now another folder's.
        mount -n -c --rbind "/proc/self/fd/$fd" "$path"
        exec {fd}<&-
    done
}
