#!/bin/sh
# Boots systemd, as it is installed on this machine, in the network namespace of the caller: its own
# processes, mounts, names and control groups, and an overlay in memory over the machine's files.
# Arguments: a folder to work in, and files that are to be in /root. Killed with this process.
set -e
here=$1
shift

if [ "${STAGE:-outside}" = outside ]; then
    mount --make-rprivate /
    mkdir -p "$here/groups" "$here/upper" "$here/root"
    mount -t cgroup2 cgroup "$here/groups"
    # systemd takes the group that it is in for the root of all.
    group=$here/groups/failover-lab-$$
    mkdir "$group"
    echo $$ >"$group/cgroup.procs"
    export STAGE=inside
    setpriv --pdeathsig KILL \
        unshare --pid --fork --uts --ipc --cgroup --mount --kill-child=SIGKILL sh "$0" "$here" "$@" || :
    echo $$ >"$here/groups/cgroup.procs"
    find "$group" -depth -type d -exec rmdir {} +
    exit
fi

root=$here/root
mount -t tmpfs upper "$here/upper"
mkdir "$here/upper/files" "$here/upper/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$here/upper/files,workdir=$here/upper/work" "$root"
cp "$@" "$root/root/"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
: >"$root/dev/console"

# Only what every system has, and nothing that would change the machine.
units=$root/etc/systemd/system
rm -rf "$units"/*.wants
for unit in console-getty getty@tty1 systemd-binfmt systemd-hwdb-update systemd-logind \
    systemd-modules-load systemd-pstore systemd-random-seed systemd-remount-fs systemd-sysctl \
    systemd-sysusers systemd-timesyncd systemd-udev-trigger systemd-udevd systemd-update-utmp; do
    ln -sf /dev/null "$units/$unit.service"
done
ln -sf /dev/null "$units/getty.target"
rm -f "$root/etc/machine-id" "$root/etc/fstab" "$root/usr/sbin/policy-rc.d"
: >"$root/etc/machine-id"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
rm -rf "$root/etc/failover" "$root/var/lib/failover" "$root/var/log/failover"

# What differs from the machine, to be looked at from inside.
mkdir -p "$root/mnt/lab-changes" "$root/mnt/lab-old"
mount --bind "$here/upper/files" "$root/mnt/lab-changes"
cd "$root"
pivot_root . mnt/lab-old
umount -l /mnt/lab-old
exec env -i container=failover-lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --show-status=no </dev/null >/dev/console 2>&1
