# One step of an install: with a deadline, into the tool's log, and again when the network
# may be to blame.

# Runs into the log of a tool.
step() { # TOOL COMMAND…
    local tool=$1
    shift
    printf '$ %s\n' "$*" >>"$(log_of "$tool")"
    "$@" >>"$(log_of "$tool")" 2>&1
}

# The deadline stays in our process group, so that ending the group ends the step.
limited() { # COMMAND…
    timeout --foreground --kill-after=10 "$STEP_DEADLINE" "$@"
}

# A step that talks to the network: four attempts, 2, 6 and 18 seconds apart.
retry() { # TOOL WHAT COMMAND…
    local tool=$1 what=$2 attempt pause=2
    shift 2
    for attempt in 1 2 3 4; do
        step "$tool" "$@" && return
        ((attempt < 4)) || break
        say "$tool" "$what failed (attempt $attempt of 4); again in $pause s"
        sleep "$pause"
        pause=$((pause * 3))
    done
    return 1
}
