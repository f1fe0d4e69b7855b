#!/bin/sh
# Installs RabbitMQ on Debian and its kin when it is missing, for the tests that run against a real node.
# The packaged service is not started: each test run starts a node of its own.
set -eu

[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && exit 0

give_up() {
    echo "RabbitMQ is needed for these tests and is not installed: $1" >&2
    echo "Install the package rabbitmq-server (3.10 or later) so that /usr/lib/rabbitmq/bin/rabbitmq-server exists, and run again." >&2
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

# Debian asks policy-rc.d before it starts a fresh service: 101 means no. An existing policy stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

# One installation at a time: several test programs may find it missing together.
lock=/tmp/campaignd-install-rabbitmq.lock
install() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && return 0
    $as_root DEBIAN_FRONTEND=noninteractive apt-get update -q || true
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends rabbitmq-server
}
exec 9>"$lock"
flock 9
install >&2 || give_up "apt-get could not install it"
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || give_up "the package did not bring /usr/lib/rabbitmq/bin/rabbitmq-server"
