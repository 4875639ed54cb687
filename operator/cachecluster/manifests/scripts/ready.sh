# Readiness: the node answers, has loaded its data, is a member of a cluster with slots, lets the application in, and
# as a replica is in step with its primary, which speaks every second. Never cluster_state: one lost shard must not take
# all others off the air.
set -u
. /etc/cachecluster/config/common.sh

printf 'CLUSTER INFO\nINFO replication\nACL GETUSER default\n' | ask_self | awk '
    function no(why) { print why; decided = 1; exit 1 }
    { sub(/\r$/, "") }
    /^LOADING/ { no("still loading its data") }
    /^cluster_slots_assigned:/ { assigned = substr($0, 24) + 0; answered = 1 }
    /^master_link_status:/ && $0 != "master_link_status:up" { behind = 1 }
    /^master_last_io_seconds_ago:/ && substr($0, 28) + 0 >= 4 { unheard = 1 }
    previous == "flags" && $0 == "off" { quarantined = 1 }
    { previous = $0 }
    END {
        if (decided) exit 1
        if (!answered) no("no answer")
        if (!assigned) no("not a member of a formed cluster yet")
        if (quarantined) no("quarantined until the operator has compared its data with its replicas")
        if (behind) no("not in step with its primary")
        if (unheard) no("has not heard of its primary for seconds")
    }' || exit 1

[ ! -e "$UNREAD" ] || rm -rf "$ASIDE" "$UNREAD"
