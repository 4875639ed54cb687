# Starts the engine, unless that could lose data.
#
# A primary that comes back without its memory, or with an older copy of it, must not meet its replicas under its old
# identity: they would throw away what they have and copy what it has. While it is down they elect a new primary. So
# this script looks at what the node was, asks the other nodes what has become of its slots, and only then starts
#   normally     it was a replica, or nobody has newer data
#   replaced     its slots have moved on: it accepts no write until it follows
#   new          it had no task yet: application and replication switched off until the operator gives it one
#   blank        its data is gone: under a new identity, owning nothing, otherwise as a new node
#   quarantined  its data may be older than that of a replica: application and replication switched off, the operator decides
set -u
. /etc/cachecluster/config/common.sh
LIVE=/etc/cachecluster/live/live.conf
CGROUP=/sys/fs/cgroup
NODES=$DATA/nodes.conf
LOG=$DATA/appendonlydir
WORK=$DATA/.start
PEERS_AT_ONCE=12
CHECK_SECONDS=60

say() {
    echo "start: $*"
}

# refuse STATUS MESSAGE: nothing on the volume has been touched; the operator reads the message, people too.
refuse() {
    status=$1
    shift
    say "$*" >&2
    echo "$*" >/dev/termination-log
    exit "$status"
}
FOREIGN_VOLUME=3
NO_USERS=4

trap 'say "told to stop before the engine was started"; exit 143' TERM INT

# Others than the operator can edit the file of live parameters, and it may be older than the memory limit of this
# container. Whatever it says, a node begins with no more than its share of that limit, as far as that can be read.
# Sets maxmemory; empty: the file decides.
bound_memory() {
    maxmemory=
    limit=$(cat "$CGROUP/memory.max" 2>/dev/null || cat "$CGROUP/memory/memory.limit_in_bytes" 2>/dev/null)
    case $limit in
        '' | *[!0-9]* | ????????????????*) return ;; # none, or a number that means none
    esac
    maxmemory=$(((limit + 65536) * MAXMEMORY_PERCENT / 100)) # the kernel has rounded the limit down to whole pages
    asked=$(awk 'tolower($1) == "maxmemory" { last = $2 } END { print last }' "$LIVE")
    case $asked in
        '' | 0* | *[!0-9]* | ????????????????*) ;;
        *) [ "$asked" -gt "$maxmemory" ] || maxmemory=$asked ;;
    esac
}

# Without its users the engine would let anybody do anything, and the operator in no more.
check_users() {
    for user in default "$NODE_USER"; do
        grep -q "^user $user " "$ACL/$1" || refuse "$NO_USERS" "$1 of the mounted Secret lacks the user $user:" \
            "somebody has edited it; the operator puts it back, and the kubelet brings it here within a minute or two"
    done
}

# The mounted file is all shards'. Only who logs in as the user of this shard may copy its data: a replica that finds a
# node of another shard at its primary's old address is turned away by it, and keeps what it has. Written only if it
# differs: a volume without space need not stop a node from starting. Sets own.
write_users() {
    own=$REPLICATION_USER-$SHARD
    users=$(awk -v user="$REPLICATION_USER" -v own="$own" '$2 == user { $2 = own } { print }' "$ACL/$1")
    [ "$users" != "$(cat "$DATA/users.acl" 2>/dev/null)" ] || return 0
    new=$DATA/users.acl.new
    (umask 077 && echo "$users" >"$new" && mv "$new" "$DATA/users.acl") ||
        refuse "$NO_USERS" "the file of users cannot be written to the volume"
}

# serve USERS [OPTION...]
serve() {
    users=$1
    shift
    check_users "$users"
    rm -rf "$WORK"
    write_users "$users"
    bound_memory
    [ "$PERSISTENCE" != AppendOnly ] || { : >"$UNREAD"; } 2>/dev/null || say "$UNREAD cannot be written"
    exec valkey-server "$CONFIG/valkey.conf" --primaryuser "$own" \
        --cluster-announce-ip "$POD_IP" --replica-announce-ip "$POD_IP" ${maxmemory:+--maxmemory "$maxmemory"} "$@"
}

start_normally() {
    say "normal start: $1"
    serve "$USERS"
}

# Who has been replaced refuses writes until it has heard so from its successor, which may be down just now: nobody
# follows it any more, so it asks for a replica. The operator knows it by what it asks for, and has it ask for nobody once
# it is a replica itself.
start_replaced() {
    say "normal start: $1; it refuses writes until it follows"
    serve "$USERS" --min-replicas-to-write 1 --min-replicas-max-lag 1
}

# A node without a task is closed to applications and to replication until the operator gives it one: a replica that
# still looks for its lost primary at this address would otherwise replace what it has by the nothing that is here.
start_new() {
    say "start of a new node, closed until the operator gives it a task: $1"
    serve "$QUARANTINE"
}

start_blank() {
    [ ! -e "$NODES" ] || mv -f "$NODES" "$NODES.former"
    say "blank start under a new identity, closed until the operator gives it a task: $1"
    serve "$QUARANTINE"
}

start_quarantined() {
    say "quarantined start, the operator has to compare this node's data with its replicas': $1"
    serve "$QUARANTINE"
}

# The volume carries the uid of its CacheCluster, so that a clone or a wrong restore never joins the cluster of another.
check_volume() {
    if [ -s "$DATA/cluster-uid" ]; then
        found=$(cat "$DATA/cluster-uid")
        [ "$found" = "$CLUSTER_UID" ] || refuse "$FOREIGN_VOLUME" "the volume belongs to the CacheCluster with uid $found," \
            "this one has uid $CLUSTER_UID: delete the PersistentVolumeClaim of this pod to start with an empty volume"
    elif [ -e "$NODES" ] || [ -e "$DATA/dump.rdb" ] || [ -e "$LOG" ]; then
        refuse "$FOREIGN_VOLUME" "the volume holds data but not the uid of its CacheCluster:" \
            "delete the PersistentVolumeClaim of this pod to start with an empty volume"
    else
        new=$DATA/cluster-uid.new
        { echo "$CLUSTER_UID" >"$new" && { sync "$new" || sync; } && mv "$new" "$DATA/cluster-uid"; } ||
            refuse "$FOREIGN_VOLUME" "the volume cannot be written"
        say "fresh volume, now marked with uid $CLUSTER_UID"
    fi
}

# Whether the engine will find the data of an earlier run.
has_data() {
    case $PERSISTENCE in
        Snapshot) [ -s "$DATA/dump.rdb" ] ;;
        AppendOnly) [ -s "$LOG/appendonly.aof.manifest" ] ;;
        *) return 1 ;;
    esac
}

# Whether somebody answers who leads our shard.
leader_answers() {
    me=$(awk '$3 ~ /myself/ { print $1 }' "$NODES")
    known_peers | awk '$1 == "replica" && $3 != "-" { print $2, $3 }' | {
        while read -r id host; do
            printf 'CLUSTER MYID\nCLUSTER NODES\n' | ask "$host" | awk -v id="$id" '
                NR == 1 && $1 != id { exit }
                NF >= 9 && $3 ~ /myself/ && $3 ~ /master/ { found = 1 }
                END { exit !found }' && exit 0
        done
        exit 1
    }
}

# Whether a part of the log that was appended to is damaged. Its base is left out: the tool of 9.1 takes every one that
# this engine writes for damaged.
log_is_damaged() {
    for part in $(awk '$1 == "file" && $6 == "i" { print $2 }' "$LOG/appendonly.aof.manifest"); do
        timeout "$CHECK_SECONDS" valkey-check-aof "$LOG/$part" >/dev/null 2>&1 &
        wait $!
        [ $? -ne 1 ] || return 0
    done
    return 1
}

# What somebody else leads with is copied anew in any case, so a log that keeps the engine from starting is put aside. It
# has a gap where the disk was full: the engine cuts off what it could not write whole, and goes on behind that (Valkey,
# aof.c: ftruncate without lseek). Looked for only once a start has not come to an end, for it takes as long as a start.
put_unreadable_log_aside() {
    [ "$PERSISTENCE" = AppendOnly ] && [ -e "$UNREAD" ] && has_data || return 0
    leader_answers && log_is_damaged || return 0
    rm -rf "$ASIDE"
    mv "$LOG" "$ASIDE" || return 0
    say "the log of writes cannot be read; it is put aside, for another node leads with the data"
}

# A new node begins with a snapshot of nothing: without it, a node that was never written to could not be told from one
# that has lost its data. (RDB version 11, which every Valkey reads; end mark, no checksum.)
write_first_snapshot() {
    printf 'REDIS0011\377\000\000\000\000\000\000\000\000' >"$DATA/dump.rdb"
}

has_only_first_snapshot() {
    [ "$PERSISTENCE" = Snapshot ] && [ "$(wc -c <"$DATA/dump.rdb")" -eq 18 ]
}

# "ID EPOCH SLOTS..." if this node was a primary with slots when it last wrote its table, else nothing.
former_primary() {
    awk '$3 ~ /myself/ && $3 ~ /master/ {
        slots = ""
        for (i = 9; i <= NF; i++) if ($i !~ /^\[/) slots = slots " " $i
        if (slots != "") print $1, $7 slots
    }' "$NODES"
}

was_replica() {
    awk '$3 ~ /myself/ && $3 ~ /slave/ { found = 1 } END { exit !found }' "$NODES"
}

# "KIND ID HOST" of every other node; HOST is "-" where no address is known. Of our shard (KIND "replica") is who follows
# us, and who led it before us and had not told us yet that it follows.
known_peers() {
    awk -v me="$me" '
        function shard(address) { return match(address, /shard-id=[^,]*/) ? substr(address, RSTART, RLENGTH) : "" }
        NF < 8 || $3 ~ /handshake/ { next }
        NR == FNR { if ($3 ~ /myself/) ours = shard($2); next }
        $3 !~ /myself/ {
            kind = ($4 == me || (ours != "" && shard($2) == ours)) ? "replica" : "other"
            host = $2
            sub(/@.*/, "", host)
            sub(/:[^:]*$/, "", host)
            print kind, $1, (host == "" || $3 ~ /noaddr/ ? "-" : host)
        }' "$NODES" "$NODES"
}

# Of them, with an address: all of our shard, and some of the rest, the next ones in each round.
peers() {
    known_peers | awk -v round="$1" -v at_once="$PEERS_AT_ONCE" '
        $3 == "-" { next }
        $1 == "replica" { print; next }
        { other[n++] = $0 }
        END { for (i = 0; i < n && i < at_once; i++) print other[(round * at_once + i) % n] }'
}

# Their ids.
replicas() {
    known_peers | awk '$1 == "replica" { print $2 }'
}

# examine KIND ID HOST: prints one line "KIND ID MOVED LINK" if the node that answers there is the one we know.
#   MOVED  yes: all our slots belong to others, by a newer epoch than ours
#   LINK   never: it has not once been in sync with a primary since its process started; stored: the same, but it has
#          data, from its own snapshot, which may be newer than ours; else synced or none
# A node that takes our password but is still loading prints "busy ID no none".
examine() {
    printf 'CLUSTER MYID\nINFO replication\nINFO keyspace\nCLUSTER NODES\n' | ask "$3" | awk \
        -v kind="$1" -v id="$2" -v me="$me" -v epoch="$epoch" -v slots="$slots" -v persistence="$PERSISTENCE" '
        function mark(range, value,    ends, first, last, s) {
            split(range, ends, "-")
            first = ends[1] + 0
            last = (ends[2] == "" ? first : ends[2] + 0)
            for (s = first; s <= last; s++) owned[s] = value
        }
        NR == 1 && /^LOADING/ { print "busy", id, "no", "none"; exit }
        NR == 1 && $1 != id { exit }
        NR == 1 { verified = 1 }
        /^role:slave/ { link = "synced" }
        /^master_link_down_since_seconds:-1/ { link = "never" }
        /^db[0-9]+:keys=/ && link == "never" && persistence == "Snapshot" { link = "stored" }
        NF >= 9 && $3 ~ /master/ && $1 != me && $7 + 0 > epoch + 0 {
            for (i = 9; i <= NF; i++) if ($i !~ /^\[/) mark($i, "elsewhere")
        }
        END {
            if (!verified) exit
            moved = "yes"
            n = split(slots, mine, " ")
            for (i = 1; i <= n; i++) {
                split(mine[i], ends, "-")
                last = (ends[2] == "" ? ends[1] : ends[2]) + 0
                for (s = ends[1] + 0; s <= last; s++) if (owned[s] != "elsewhere") moved = "no"
            }
            print kind, id, moved, (link == "" ? "none" : link)
        }'
}

# One round: all at the same time, so that nodes that do not answer cost two seconds and not two seconds each.
ask_peers() {
    rm -rf "$WORK"
    mkdir -p "$WORK"
    peers "$1" | {
        while read -r kind id host; do
            examine "$kind" "$id" "$host" >"$WORK/$id" &
        done
        wait
    }
}

# Reads the answers of a round; prints "moved", "unsynced" (every replica of ours answers and has neither been in sync
# since it started nor any data, so none has anything that we lack), "restarted" (the same, but some have snapshots of
# their own: none can be elected with it), "answered" or "silent".
judge() {
    cat "$WORK"/* 2>/dev/null | awk -v replicas="$(replicas | tr '\n' ' ')" '
        $3 == "yes" { moved = 1 }
        $1 == "replica" { link[$2] = $4 }
        END {
            unsynced = restarted = 1
            n = split(replicas, ids, " ")
            for (i = 1; i <= n; i++) {
                if (link[ids[i]] != "never") unsynced = 0
                if (link[ids[i]] !~ /^(never|stored)$/) restarted = 0
            }
            if (moved) print "moved"
            else if (unsynced) print "unsynced"
            else if (restarted) print "restarted"
            else if (NR) print "answered"
            else print "silent"
        }'
}

# Waits, with the engine down, until it is clear what became of our slots. Sets verdict to moved, unsynced, restarted or
# unclear.
hold() {
    say "this node was a primary (id $me, slots$slots) with replicas; held back for at most $HOLD_SECONDS s" \
        "while they may elect a new one"
    began=$(uptime_seconds)
    limit=$SILENT_HOLD_SECONDS
    round=0
    while :; do
        ask_peers "$round" &
        wait $!
        verdict=$(judge)
        waited=$(($(uptime_seconds) - began))
        case $verdict in
            moved | unsynced | restarted) return ;;
            answered) limit=$HOLD_SECONDS ;;
        esac
        if [ "$waited" -ge "$limit" ]; then
            verdict=unclear
            return
        fi
        round=$((round + 1))
        sleep 1 &
        wait $!
    done
}

start_former_primary() {
    me=${1%% *}
    epoch=${1#* }
    slots=" ${epoch#* }"
    epoch=${epoch%% *}
    if [ -z "$(replicas)" ]; then
        ! has_data || start_normally "it was a primary without replicas, and its data is here"
        start_blank "it was a primary without replicas, and its data is gone"
    fi
    hold
    case $verdict in
        moved) reason="after $waited s another node owns its slots" ;;
        unsynced) reason="no replica has been in sync since it started, none has newer data" ;;
        restarted) reason="replicas have restarted as well, with snapshots of their own" ;;
        *) reason="after $waited s no other node has taken its slots over" ;;
    esac
    [ "$verdict" != moved ] || put_unreadable_log_aside
    has_data || start_blank "its memory is gone; $reason"
    case $verdict in
        moved) start_replaced "$reason" ;;
        unsynced) start_normally "$reason" ;;
        *) start_quarantined "$reason" ;;
    esac
}

check_volume
# What a replica without persistence may have left of a sync is no data to start from.
[ "$PERSISTENCE" != None ] || rm -f "$DATA/dump.rdb" "$DATA"/temp-*.rdb

if [ ! -s "$NODES" ]; then
    ! has_data || has_only_first_snapshot || start_quarantined "there is data, but the node does not know who it was"
    [ "$PERSISTENCE" != Snapshot ] || write_first_snapshot
    start_new "it has no history"
fi
if ! grep -q myself "$NODES"; then
    has_data || start_blank "its cluster table is damaged, and there is no data"
    start_normally "its cluster table is damaged: the engine will refuse it, and the data stays untouched"
fi
former=$(former_primary)
[ -z "$former" ] || start_former_primary "$former"
if was_replica; then
    put_unreadable_log_aside
    start_normally "it was a replica"
fi
start_new "it owned no slots and followed nobody"
