# What a person sees: one line an event, with the time since the start, and the end of a log
# when something failed. Knows nothing about tools.

# An event of a tool; a lane writes it, the reader in lanes.sh prints it.
say() { # TOOL TEXT
    printf '%s\t%s\n' "$1" "$2"
}

line() { # TOOL TEXT
    printf '[%4d s] %s: %s\n' "$SECONDS" "$1" "$2"
}

die() {
    printf 'toolchain: %s\n' "$*" >&2
    exit 1
}

log_of() { # TOOL
    echo "$STATE/log/$1.log"
}

log_tail() { # TOOL
    local log
    log=$(log_of "$1")
    [[ -s $log ]] || return 0
    printf -- '--- the end of %s\n' "$log"
    tail -n 15 "$log" | sed 's/^/    /'
}
