#!/bin/busybox sh
# The first process of an emulated machine: runs a test program and switches the machine off.
# Its output goes to the second serial port, its exit status to the third.

b=/bin/busybox
$b mkdir -p /proc /sys /dev /tmp /run /mnt /root /etc /var
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
# The kernel loads the module of TUN when this is opened.
$b mkdir -p /dev/net
$b mknod /dev/net/tun c 10 200
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t tmpfs tmp /tmp
$b mount -t cgroup2 cgroup /sys/fs/cgroup

exec </dev/null >/dev/ttyS1 2>&1
# Lines end as the programs end them.
$b stty -F /dev/ttyS1 -opost

# Should whoever watches this machine be gone, it still does not run for ever.
{ $b sleep "$1"; $b poweroff -f; } &

# What the tests bring along comes before the programs of the same name in busybox.
$b --install -s /bin 2>/dev/null
export PATH=/sbin:/bin HOME=/root
$b ip link set lo up
# The lab sets how long connection tracking remembers before anybody else has it loaded.
modprobe nf_conntrack || exit 1
# All namespaces share the queues of the processors, and emulated processors are slow: tests that
# count lost packets are not to count those of other tests' bursts.
echo 20000 >/proc/sys/net/core/netdev_max_backlog
read -r uptime _ </proc/uptime
echo "Linux $(uname -r) has booted in $uptime s"

cd /tests || exit 1
while IFS= read -r assignment; do
    export "$assignment"
done </tests/environment

set --
while IFS= read -r argument; do
    set -- "$@" "$argument"
done </tests/arguments
for program in /tests/deps/*; do
    echo "     Running ${program##*/} ($program)"
    "$program" "$@"
    echo "$?" >/dev/ttyS2
done
$b poweroff -f
