# Side by side: one lane for Debian's packages (they share one lock anyway), one each for Go,
# Maven and npm. A lane takes its tools in order and waits for what a tool needs from another lane.
# How a kind installs stays in kind-*.sh.

# Prints events until every lane is done; fails when a tool has.
run_lanes() {
    local lanes
    line toolchain "installs ${MISSING[*]} into $TOOLS"
    mkfifo "$WORK/events"
    mkdir "$WORK/done" "$WORK/failed"
    set -m # a process group of their own, so that one signal ends all lanes
    lanes >"$WORK/events" 2>&1 &
    lanes=$!
    set +m
    trap 'interrupted "$lanes"' INT TERM HUP
    follow <"$WORK/events"
    wait "$lanes" || true
    trap - INT TERM HUP
    verdict
}

interrupted() { # PROCESS GROUP
    trap '' INT TERM HUP
    line toolchain "told to end; what was fetched is kept, run it again to go on"
    kill -TERM -- "-$1" 2>/dev/null || true
    wait "$1" || true
    rm -rf "$WORK"
    exit 143
}

lanes() {
    lane_deb &
    lane_each go gosdk gofiles go &
    lane_each maven maven rootfs &
    lane_each npm npm &
    wait
}

# Prints each event, and after 30 silent seconds what is under way.
follow() {
    local tool text status
    declare -A doing=() since=()
    while :; do
        status=0
        IFS=$'\t' read -r -t 30 tool text || status=$?
        if ((status > 128)); then
            still
        elif ((status)); then
            return
        else
            line "$tool" "$text"
            doing[$tool]=$text since[$tool]=$SECONDS
            [[ $text != ready* && $text != FAILED* ]] || unset "doing[$tool]"
        fi
    done
}

still() {
    local tool
    for tool in "${!doing[@]}"; do
        line "$tool" "${doing[$tool]} … $((SECONDS - since[$tool])) s"
    done
}

verdict() {
    local tool failed=()
    for tool in "${MISSING[@]}"; do
        [[ -e $WORK/done/$tool ]] || failed+=("$tool")
    done
    ((${#failed[@]})) || { line toolchain "done"; rm -rf "$WORK"; return; }
    for tool in "${failed[@]}"; do
        log_tail "$(log_name "$tool")" >&2
    done
    rm -rf "$WORK"
    die "failed: ${failed[*]}; what was fetched is kept, so run it again when the cause is gone"
}

log_name() { # TOOL
    [[ $(field "$1" kind) == deb ]] && echo apt || echo "$1"
}

missing_of() { # KIND…
    local tool
    for tool in "${MISSING[@]}"; do
        ! has_word "$(field "$tool" kind)" "$*" || echo "$tool"
    done
}

# What other lanes wait for comes first, in a batch of its own.
lane_deb() {
    local tool first=() rest=()
    : >"$(log_of apt)"
    for tool in $(missing_of deb); do
        if needed "$tool"; then first+=("$tool"); else rest+=("$tool"); fi
    done
    deb_batch "${first[@]}"
    deb_batch "${rest[@]}"
}

needed() { # TOOL
    local other
    for other in "${MISSING[@]}"; do
        ! has_word "$1" "${FIELD[$other.needs]-}" || return 0
    done
    return 1
}

deb_batch() { # TOOL…
    local tool
    (($#)) || return 0
    # Said in either case: nothing of it is under way any more.
    if deb_install "$@"; then say apt "ready"; else say apt "FAILED, see $(log_of apt)"; fi
    for tool in "$@"; do
        if deb_present "$tool"; then ready "$tool"; else failed "$tool"; fi
    done
}

lane_each() { # LANE KIND…
    local tool
    shift
    for tool in $(missing_of "$@"); do
        : >"$(log_of "$tool")"
        if await "$tool" && "$(field "$tool" kind)_install" "$tool"; then ready "$tool"; else failed "$tool"; fi
    done
}

# Waits until what a tool needs is there, and fails when that has failed.
await() { # TOOL
    local need
    for need in ${FIELD[$1.needs]-}; do
        has_word "$need" "${MISSING[*]}" || continue
        [[ -e $WORK/done/$need ]] || say "$1" "waits for $need"
        until [[ -e $WORK/done/$need ]]; do
            [[ ! -e $WORK/failed/$need ]] || { say "$1" "cannot go on without $need"; return 1; }
            sleep 0.2
        done
    done
}

ready() { # TOOL
    touch "$WORK/done/$1"
    say "$1" "ready"
}

failed() { # TOOL
    touch "$WORK/failed/$1"
    say "$1" "FAILED, see $(log_of "$(log_name "$1")")"
}
