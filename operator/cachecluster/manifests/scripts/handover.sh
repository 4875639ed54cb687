# Before the node is stopped: a primary hands its slots over to the replica that is furthest along, without losing a
# write, and waits until that is done. Needs no operator. Gives up after 12 s, at once if there is nobody to hand to.
set -u
. /etc/cachecluster/config/common.sh

owns_slots() {
    echo 'CLUSTER NODES' | ask "$POD_IP" |
        awk '$3 ~ /myself/ && $3 ~ /master/ && NF >= 9 { found = 1 } END { exit !found }'
}

replication() {
    echo 'INFO replication' | ask "$1"
}

# From INFO on standard input: hosts of the replicas that are online, the highest offset and then the smallest lag first.
online_replicas() {
    awk '/^slave[0-9]+:/ {
        sub(/^slave[0-9]+:/, "")
        n = split($0, parts, ",")
        for (i = 1; i <= n; i++) {
            at = index(parts[i], "=")
            value[substr(parts[i], 1, at - 1)] = substr(parts[i], at + 1)
        }
        if (value["state"] == "online") print value["offset"], value["lag"], value["ip"]
    }' | sort -k1,1nr -k2,2n | awk '{ print $3 }'
}

# Asks the replica at HOST, if it follows this node and is in step, to take over.
request() {
    replication "$1" | awk -v me="$POD_IP" '
        $0 == "master_host:" me { mine = 1 }
        $0 == "master_link_status:up" { up = 1 }
        END { exit !(mine && up) }' || return 1
    [ "$(echo 'CLUSTER FAILOVER' | ask "$1")" = OK ]
}

# The engine gives a hand-over 5 s; it is also over when all replicas have stayed away for a while, as when everything
# is being deleted. For a moment they are away in every hand-over: the new primary leaves before this node hears of it.
await_switch() {
    give_up=$(($(uptime_seconds) + 6))
    away=0
    while [ "$(uptime_seconds)" -lt "$give_up" ]; do
        status=$(replication "$POD_IP")
        case $status in
            *role:slave*) return 0 ;;
            *role:master*) [ -n "$(echo "$status" | online_replicas)" ] && away=0 || away=$((away + 1)) ;;
            *) return 1 ;;
        esac
        [ "$away" -lt 10 ] || return 1
        sleep 0.1
    done
    return 1
}

deadline=$(($(uptime_seconds) + 6))
while owns_slots; do
    hosts=$(replication "$POD_IP" | online_replicas)
    if [ -z "$hosts" ]; then
        echo "handover: no replica is online"
        exit 0
    fi
    for host in $hosts; do
        if request "$host" && await_switch; then
            echo "handover: $host has taken over"
            exit 0
        fi
        if [ "$(uptime_seconds)" -ge "$deadline" ]; then
            echo "handover: gave up, no replica has taken over in time"
            exit 0
        fi
    done
    sleep 0.2
done
