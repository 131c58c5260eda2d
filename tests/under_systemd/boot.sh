#!/usr/bin/env bash
# Boots a Debian with a real systemd in namespaces of its own, and tries the service in it, as docs/service.md has it.
# As root, on a machine with cgroup2:  tests/under_systemd/boot.sh bookworm /var/tmp/bookworm   (trixie, ...)
# What pip is told by PIP_* variables holds inside too. The folder is kept for the next time; nothing else is left.
set -euo pipefail
suite=$1 root=$2
project=$(cd "$(dirname "$0")/../.." && pwd)
if [ ! -x "$root/lib/systemd/systemd" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3-venv,ca-certificates,curl "$suite" "$root" >/dev/null
fi
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
rm -rf "$root/var/log/journal" "$root/opt/project" && mkdir -p "$root/opt/project"
cp -r "$project"/{pyproject.toml,README.md,LICENSE,src,tests} "$root/opt/project/"
env | grep -E '^PIP_(INDEX|EXTRA_INDEX|CERT|TRUSTED|DEFAULT_TIMEOUT)' >"$root/opt/project/pip.env" || true

cgroups=$(mktemp -d)
mount -t cgroup2 cgroup2 "$cgroups"
mkdir -p "$cgroups/tweetboard-test"
export root
# shellcheck disable=SC2016
unshare --mount --pid --uts --ipc --fork --kill-child bash -c '
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  echo $$ >'"$cgroups"'/tweetboard-test/cgroup.procs
  exec unshare --cgroup bash -c '"'"'
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs tmpfs "$root/run" -o mode=755
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t tmpfs tmpfs "$root/dev" -o mode=755
    for name in null zero full random urandom tty; do
      touch "$root/dev/$name" && mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666
    mount -t tmpfs tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx" && ln -s /proc/self/fd "$root/dev/fd"
    cd "$root" && mkdir -p outside && pivot_root . outside && umount -l /outside
    mount --make-rshared /  # or no credential would reach a service
    hostname under-systemd
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd systemd.unit=multi-user.target \
      </dev/null >/dev/console.log 2>&1
  '"'"'
' &
booting=$!
manager=
trap 'kill -9 ${manager:-$booting} 2>/dev/null || true; wait "$booting" 2>/dev/null || true
  sleep 1; find "$cgroups/tweetboard-test" -depth -type d -exec rmdir {} + || true
  umount "$cgroups"; rmdir "$cgroups"' EXIT
for _ in $(seq 100); do
  manager=$(pgrep -P "$booting" || true)
  [ -n "$manager" ] && [ -S "/proc/$manager/root/run/systemd/private" ] && break
  sleep 0.2
done
nsenter -t "$manager" -m -p -u -i -C env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
  bash /opt/project/tests/under_systemd/check.sh
