# What the pod scripts share. POSIX sh: runs in Debian and Alpine images, needs nothing beyond busybox and valkey-cli.
CONFIG=/etc/cachecluster/config
ACL=/etc/cachecluster/acl
DATA=/data
# There from each start with a log of writes until that has been loaded and the node is ready.
UNREAD=$DATA/unread
# A log that no start could load, until the node has another copy of the data.
ASIDE=$DATA/appendonlydir.unreadable
. "$CONFIG/settings.sh"

# The password goes through the environment: an argument would show in the process list.
credentials() {
    REDISCLI_AUTH=$(cat "$ACL/node-password")
    VALKEYCLI_AUTH=$REDISCLI_AUTH
    export REDISCLI_AUTH VALKEYCLI_AUTH
}

# ask HOST: sends the commands on standard input over one connection and prints the answers; takes 2 s at most.
ask() {
    credentials
    # "|| :" keeps the shell from reporting a client that was cut off.
    { timeout 2 valkey-cli -h "$1" -p "$PORT" --user "$NODE_USER" || :; } 2>/dev/null | tr -d '\r'
}

# ask_self: the same of this pod's node, for the probe. Not by "timeout": busybox's leaves a process behind each time,
# which the engine, as the pod's first process, never collects.
ask_self() {
    credentials
    exec 3<&0
    valkey-cli -h "$POD_IP" -p "$PORT" --user "$NODE_USER" <&3 2>/dev/null &
    asked=$!
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sleep 0.1 # also collects the client, if it has ended
        kill -0 "$asked" 2>/dev/null || return 0
    done
    kill -9 "$asked"
    wait "$asked" 2>/dev/null || :
}

# Seconds since boot: unlike the date it never jumps.
uptime_seconds() {
    read -r uptime_now _ </proc/uptime
    echo "${uptime_now%%.*}"
}
