#!/bin/sh
# Keeps one RabbitMQ node for a test program: obeys "start", "stop", "kill" on standard input (answers "done"), and takes
# everything away when standard input ends, that is, when the test program is gone for whatever reason.
# Environment: the node's RABBITMQ_* and HOME (see rabbitmq.rs), KEEPER_DIR to delete at the end.
bin=/usr/lib/rabbitmq/bin
trap '' INT TERM HUP PIPE # it must outlive the test program to clean up after it

beam() { cat "$RABBITMQ_PID_FILE" 2>/dev/null; }
gone() { # waits until process $1 has ended; a dead one that nobody has waited for is still listed, as a zombie
    n=0
    while [ -n "$1" ] && grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done
}
kill_node() {
    pid=$(beam)
    [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
    [ -n "$group" ] && kill -9 -- "-$group" 2>/dev/null
    gone "$pid"
    rm -f "$RABBITMQ_PID_FILE"
    group=
}

group=
# In the foreground and ours; a node that finds no epmd would start one that outlives everything.
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 </dev/null >/dev/null 2>&1 &
epmd=$!
while read -r order; do
    case $order in
    start)
        setsid "$bin/rabbitmq-server" </dev/null >>"$KEEPER_DIR/console.log" 2>&1 &
        group=$!
        ;;
    stop)
        pid=$(beam)
        [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null
        gone "$pid"
        kill_node
        ;;
    kill) kill_node ;;
    esac
    echo "done"
done
kill_node
kill -9 "$epmd" 2>/dev/null
rm -rf "$KEEPER_DIR"
