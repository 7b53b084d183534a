# Sourced by every case.
#
# Given by the runner: REAL (the folder of the runner), SCRATCH (an empty directory, removed afterwards), LIBRARY (what to
# preload; empty in the run without), PROGRAMS (where what a case builds stays for other runs) and, in the run with the
# library, PRECLOSE_LOG (a file in SCRATCH).
# A case exits 0 when the program did what it should, 42 when a thread of it hangs in a call on a descriptor that the
# program has closed, 77 when it cannot run here; anything else is a failure.
set -u
readonly PYTHON=/usr/bin/python3 HUNG=42 CANNOT_RUN=77
readonly LONG=10                          # seconds that anything here may take
PATH=$PATH:/usr/sbin:/sbin                # where Debian has servers, and few users do
cd "$SCRATCH" || exit 1

fail() { # WHY: and what the programs said last
    local file
    for file in *.out out log; do
        [ ! -s "$file" ] || { printf '%s says:\n' "$file" && tail -n 8 "$file" && echo; }
    done
    printf 'failed: %s\n' "$*"
    exit 1
}
cannot_run() { printf 'cannot run: %s\n' "$*"; exit $CANNOT_RUN; }

need() { # PROGRAM...
    local program
    for program; do command -v "$program" > /dev/null || cannot_run "$program is not installed"; done
}
need_file() { # FILE...
    local file
    for file; do [ -e "$file" ] || cannot_run "$file is not installed"; done
}

preloaded() { # COMMAND...: runs it with the library (as a simple command with &, $! is COMMAND's own process)
    exec env ${LIBRARY:+LD_PRELOAD="$LIBRARY"} "$@"
}
start() { # NAME COMMAND...: in the background with the library, its output in NAME.out, its process in $PID
    local name=$1
    shift
    preloaded "$@" > "$name.out" 2>&1 < /dev/null &
    PID=$!
    loaded "$PID"
}
run() { # COMMAND...: in the foreground with the library
    (preloaded timeout -k 1 "$LONG" "$@")
}

# Waiting: always for a state, never for a time.
within() { # SECONDS COMMAND...: COMMAND succeeds before that
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.02
    done
}
gone() { [[ ! -e /proc/$1 || $(cut -d' ' -f3 "/proc/$1/stat" 2> /dev/null) == Z ]]; }
children_of() { cat /proc/"$1"/task/*/children 2> /dev/null; }
has_children() { [ "$(children_of "$1" | wc -w)" -ge "$2" ]; }
says() { grep -qE -- "$2" "$1"; }
wait_for_line() { # FILE PATTERN
    within "$LONG" says "$1" "$2" || fail "$1 never says '$2'"
}
listens() { # PORT: TCP state 0A, asked of the kernel without connecting
    grep -qiE "$(printf ':%04X [0:]+ 0A ' "$1")" /proc/net/tcp /proc/net/tcp6
}
wait_for_port() {
    local port
    for port; do within "$LONG" listens "$port" || fail "nothing listens on port $port"; done
}
free_ports() { # COUNT: so many ports of the loopback that nothing listens on
    "$PYTHON" - "$1" << 'PY'
import random, socket, sys
held = []
for port in random.sample(range(10000, 32000), 1000):       # below those that the kernel gives to clients
    try:
        held.append(socket.create_server(("127.0.0.1", port)))
    except OSError:
        continue
    if len(held) == int(sys.argv[1]):
        break
print(*(s.getsockname()[1] for s in held))
PY
}

loaded() { # PID...: the library is in these processes
    [ -n "$LIBRARY" ] || return 0
    local pid
    for pid; do
        within "$LONG" grep -qsF -- "$LIBRARY" "/proc/$pid/maps" || gone "$pid" ||
            fail "the library is not in process $pid: $(tr '\0' ' ' < "/proc/$pid/cmdline")"
    done
}
equal() { # WHAT FOUND EXPECTED
    [ "$2" = "$3" ] || fail "$1: '$2' instead of '$3'"
}
ends() { # PID STATUS WHAT: this process of ours ends, with this exit status
    within "$LONG" gone "$1" || fail "$3 does not end: $("$PYTHON" "$REAL/lib/blocked.py" "$1")"
    wait "$1"
    equal "exit status of $3" $? "$2"
}

# Cures.
program() { # NAME COMMAND...: COMMAND -o FILE builds it, once for all runs; its path in $PROGRAM
    PROGRAM=$PROGRAMS/$1
    flock "$PROGRAMS" sh -c '[ -e "$0" ] || "$@" -o "$0"' "$PROGRAM" "${@:2}" || fail "cannot build $1"
}
close_under() { # PROGRAM... : CALL...: closes what one of its threads waits for in CALL, once it can read a line
    local command=() pid
    until [ "$1" = : ]; do command+=("$1"); shift; done
    shift
    mkfifo go
    preloaded "${command[@]}" < go > out 2>&1 & pid=$!
    exec 3> go
    loaded $pid
    wait_until_blocked $pid "$@"
    echo >&3
    wait_for_line out '^closed'
    must_end $pid
    ends $pid 0 "${command[0]##*/}"
    says out '^woken' || fail "not woken"
    found blocked-threads
}
blocked() { # PID CALL...: a thread of it is blocked in one of these calls on a descriptor
    "$PYTHON" "$REAL/lib/blocked.py" "$@"
}
wait_until_blocked() {
    within "$LONG" blocked "$@" || fail "process $1 never blocks in ${*:2}: $(blocked "$1")"
}
must_end() { # PID: it has closed what its threads wait for
    local patience=2 threads
    [ -z "$LIBRARY" ] || patience=$LONG
    if within "$patience" gone "$1"; then return 0; fi
    threads=$(blocked "$1" | grep ' closed$') || fail "process $1 stays, but not on a closed descriptor: $(blocked "$1")"
    printf 'hangs: %s\n' "$threads"
    exit $HUNG
}
found() { # EVENT: the library told it
    [ -z "$LIBRARY" ] || says "$PRECLOSE_LOG" "^preclose: [a-z]+: $1: |\"event\":\"$1\"" || fail "no finding $1"
}
told() { # EVENT COUNT: the library told it so often (PRECLOSE_FORMAT=json)
    [ "$(grep -cF "\"event\":\"$1\"" "$PRECLOSE_LOG")" -eq "$2" ]
}
told_at_least() { # EVENT COUNT
    [ "$(grep -cF "\"event\":\"$1\"" "$PRECLOSE_LOG")" -ge "$2" ]
}

# Load.
try_load() { "$PYTHON" "$REAL/lib/load.py" "$@" > load.out 2>&1; }
load() { # URL FILE COUNT
    try_load "$@" || fail "GET $1"
}
load_until() { # URL FILE: in the background, until end_load
    rm -f stop
    "$PYTHON" "$REAL/lib/load.py" "$1" "$2" 100 stop > load.out 2>&1 &
    LOAD=$!
}
end_load() { # WHAT: fails if one request did
    touch stop
    wait "$LOAD" || fail "requests fail over $1"
}
