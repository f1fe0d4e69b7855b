#!/bin/sh
# Installs systemd-analyze on Debian and its kin when it is missing: the tests hold the service unit against it.
set -eu

command -v systemd-analyze >/dev/null 2>&1 && exit 0

give_up() {
    echo "systemd-analyze is needed for these tests and is not installed: $1" >&2
    echo "Install the package systemd (247 or later), and run again." >&2
    exit 69
}

command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get on this machine"
if [ "$(id -u)" -eq 0 ]; then
    as_root=env
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    give_up "this user is not root and may not sudo without a password"
fi

# One installation at a time: several test programs may find it missing together.
exec 9>/tmp/campaignd-install-systemd.lock
flock 9
install() {
    command -v systemd-analyze >/dev/null 2>&1 && return 0
    $as_root DEBIAN_FRONTEND=noninteractive apt-get update -q || true
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends systemd
}
install >&2 || give_up "apt-get could not install it"
command -v systemd-analyze >/dev/null 2>&1 || give_up "the package did not bring it"
