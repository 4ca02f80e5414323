# What a tool folder says, what is wanted and what is missing. Installs nothing.
#
# tools/NAME/tool holds `key=value` lines; `kind` chooses the functions `KIND_present`,
# `KIND_refusal` and (in lanes.sh) the lane.

declare -A FIELD=()
ALL=() WANTED=() MISSING=()

tools_load() {
    local file tool entry
    for file in "$DEFS"/*/tool; do
        tool=${file%/tool} tool=${tool##*/}
        ALL+=("$tool")
        while read -r entry; do
            [[ $entry == '' || $entry == '#'* ]] || FIELD[$tool.${entry%%=*}]=${entry#*=}
        done <"$file"
        [[ ${FIELD[$tool.kind]-} ]] || die "$file has no kind"
    done
}

tools_list() {
    local tool
    tools_load
    for tool in "${ALL[@]}"; do
        printf '%-24s %-6s %s\n' "$tool" "$(field "$tool" kind)" "$(field "$tool" groups)"
    done
}

field() { # TOOL KEY
    echo "${FIELD[$1.$2]-}"
}

has_word() { # WORD TEXT
    [[ " $2 " == *" $1 "* ]]
}

# Sets WANTED and, with what they need to be installed, MISSING.
plan() { # GROUP|TOOL…
    local name tool
    WANTED=() MISSING=()
    for name in "$@"; do
        known "$name" || die "no group and no tool is named \`$name\` in $DEFS"
        for tool in "${ALL[@]}"; do
            ! wanted_for "$name" "$tool" || WANTED+=("$tool")
        done
    done
    for tool in "${WANTED[@]}"; do
        miss "$tool"
    done
}

known() { # GROUP|TOOL
    local tool groups=
    for tool in "${ALL[@]}"; do
        groups+=" ${FIELD[$tool.groups]-}"
    done
    has_word "$1" "${ALL[*]} $groups"
}

# With the docker runtime the servers come in containers, so `run` needs none of them here.
wanted_for() { # NAME TOOL
    [[ $1 == "$2" ]] && return
    [[ $1 == run && ${COMIND_RUNTIME-} == docker && ${FIELD[$2.runtime]-} == host ]] && return 1
    has_word "$1" "${FIELD[$2.groups]-}"
}

# Adds a missing tool after those that it needs in order to be installed.
miss() { # TOOL
    local need kind=${FIELD[$1.kind]-}
    [[ $kind ]] || die "no tool is named \`$1\` in $DEFS"
    has_word "$1" "${MISSING[*]-}" && return
    "${kind}_present" "$1" && return
    for need in ${FIELD[$1.needs]-}; do
        miss "$need"
    done
    MISSING+=("$1")
}

# Says for each of them what to do by hand.
refuse() { # TOOL…
    local tool
    for tool in "$@"; do
        printf 'toolchain: %s is missing: %s\n' "$tool" "$("$(field "$tool" kind)_by_hand" "$tool")" >&2
    done
}

refuse_impossible() {
    local tool impossible=()
    for tool in "${MISSING[@]}"; do
        "$(field "$tool" kind)_possible" || impossible+=("$tool")
    done
    ((${#impossible[@]} == 0)) || { refuse "${impossible[@]}"; return 1; }
}

# Whether each program is there: a name in PATH or a system directory, or a path with wildcards.
programs_present() { # TOOL
    local program
    for program in ${FIELD[$1.program]}; do
        program_path "$program" >/dev/null || return 1
    done
}

program_path() { # NAME|GLOB
    [[ $1 == /* ]] && { newest_match "$1"; return; }
    PATH=$PATH:/usr/sbin:/sbin type -P "$1"
}

newest_match() { # GLOB
    local found
    found=$(compgen -G "$1" | sort -V | tail -n 1)
    [[ -x $found ]] && echo "$found"
}

# Whether the tool's first program says a version of at least `minimum`.
version_suffices() { # TOOL
    local minimum=${FIELD[$1.minimum]-} program
    [[ $minimum ]] || return 0
    program=$(program_path "${FIELD[$1.program]%% *}")
    at_least "$minimum" "$("$program" ${FIELD[$1.version]:---version} 2>&1)"
}

at_least() { # MINIMUM TEXT
    [[ $2 =~ [0-9]+(\.[0-9]+)+ ]] || return 1
    [[ $(printf '%s\n%s\n' "$1" "${BASH_REMATCH[0]}" | sort -V | head -n 1) == "$1" ]]
}

# What a tool folder pins, as one checksum; kept beside what was installed by it.
pin_of() { # TOOL
    local sum
    sum=$(cat "$DEFS/$1"/* | sha256sum)
    echo "${sum%% *}"
}

pin_matches() { # TOOL
    [[ -f $STATE/pin/$1 && $(<"$STATE/pin/$1") == "$(pin_of "$1")" ]]
}

pin_keep() { # TOOL
    mkdir -p "$STATE/pin"
    pin_of "$1" >"$WORK/pin"
    mv "$WORK/pin" "$STATE/pin/$1"
}
