#!/usr/bin/env bash
# One would guess: a kernel thread is made by kthreadd (PID 2) and has its affinity, as any child has its parent's. So
# `taskset -p 1 2` would have all kernel threads that are made from then on keep off the other CPUs, as guides for quiet
# cores have it.
# What happens: kthreadd takes the affinity, and shows it, but a thread that is made afterwards may run on every CPU: the
# kernel gives each new one all the CPUs that the boot's nohz_full= and isolcpus= leave to kernel threads.
# Version: Linux 6.1.176 (Debian 12's cloud kernel), in QEMU 7.2; busybox 1.35.0.
# Seen: when the node's own work was to be kept off cores, and `psimon` came to life on one of them.
# What follows: new kernel threads have to be moved one by one whenever some have been made, or nohz_full= has to be on the
# kernel's command line.
# Run as root, with qemu-system-x86 installed. Leaves nothing behind: the kernel is in a virtual machine.
set -euo pipefail

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export PATH=$PATH:/usr/sbin:/sbin
kernel=linux-image-6.1.0-50-cloud-amd64=6.1.176-1

(
    cd "$tmp"
    for package in "$kernel" busybox-static=1:1.35.0-4+deb12u1+b1; do
        apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null
    done
    for package in ./*.deb; do dpkg-deb -x "$package" root; done
)
mkdir -p "$tmp"/initramfs/{bin,proc}
cp "$tmp/root/bin/busybox" "$tmp/initramfs/bin/"
cat >"$tmp/initramfs/init" <<'INIT'
#!/bin/busybox sh
busybox mount -t proc proc /proc
mask() { busybox taskset -p "$1" | busybox sed 's/.*: //'; }
busybox taskset -p 1 2 >/dev/null
# Whoever asks to be told of pressure gets a kernel thread (Documentation/accounting/psi).
exec 3<>/proc/pressure/cpu
echo 'some 150000 1000000' >&3
busybox sleep 1
for comm in /proc/[0-9]*/comm; do
    read -r name <"$comm"
    pid=${comm#/proc/}
    if [ "$name" = psimon ]; then new=${pid%/comm}; fi
done
read -r _ _ version _ </proc/version
echo "seen: Linux $version: kthreadd has the mask $(mask 2), psimon, which was made later, $(mask "$new")"
busybox poweroff -f
INIT
chmod +x "$tmp/initramfs/init"
(cd "$tmp/initramfs" && find . | cpio --quiet -o -H newc | gzip) >"$tmp/initrd"
said=$(timeout 300 qemu-system-x86_64 -accel tcg,thread=single -smp 4 -m 512 -nographic -no-reboot -nic none \
    -kernel "$tmp"/root/boot/vmlinuz-* -initrd "$tmp/initrd" -append 'console=ttyS0 quiet panic=-1 psi=1' </dev/null)
said=$(tr -d '\r' <<<"$said" | sed -n 's/.*seen: //p')
echo "$said"
[[ $said == *'kthreadd has the mask 1, psimon, which was made later, f' ]]
