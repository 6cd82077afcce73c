#!/usr/bin/env bash
# One would guess: a second name for a file (a hard link) takes no inode, so on a file system that has run out of
# inodes but not of space it can still be made.
# What happens: tmpfs counts each further name of a file against nr_inodes, and `df -i` shows one inode fewer free for
# each. Where they are used up link(2) fails with ENOSPC, though no inode would be made.
# Version: Linux 6.18 (the kernel is the machine's own: none is installed here), coreutils 9.1.
# Seen: when an index of hard links beside the files of a state directory was planned.
# What follows: on tmpfs (/run, /dev/shm, memory-backed volumes) a link has to be budgeted like a file, and a program that
# writes a file and then links it needs two inodes, and a way back for when there is only the first.
# Run as root. Leaves nothing behind: the mount ends with its mount namespace.
set -euo pipefail
export LC_ALL=C

if [[ ${1-} != --inside ]]; then
    tmp=$(mktemp -d)
    trap 'rm -rf "$tmp"' EXIT
    unshare --mount --propagation private "${BASH_SOURCE[0]}" --inside "$tmp"
    exit
fi

uname -sr
mount -t tmpfs -o nr_inodes=4,size=1M none "$2" # one of the four is the root folder
cd "$2"
touch file
echo "one file of one name: $(($(df --output=iused . | tail -n 1))) inodes in use of 4"
(($(df --output=iused . | tail -n 1) == 2))
ln file second
ln file third
echo "the same by three names: $(($(df --output=iused . | tail -n 1))) in use"
(($(df --output=iused . | tail -n 1) == 4))
if said=$(ln file fourth 2>&1); then
    echo 'and a fourth name was made' >&2
    exit 1
fi
echo "$said"
[[ $said == *'No space left on device' && $(stat -c %h file) == 3 ]]
seq 1000 >file # space there is
rm third
ln file fourth # and for one name that goes another can come
