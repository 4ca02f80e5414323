# kind=go: programs built from their Go module, which go.mod and go.sum in the tool's folder pin
# (go refuses what does not match go.sum).
#   import=  the packages to build      program=  the files' names in bin/, in the same order
#   ldflags=  added to -s -w            test=     packages whose tests are built, after those of import=

go_present() {
    local program
    for program in $(field "$1" program); do
        [[ -x $TOOLS/bin/$program ]] || return
    done
    pin_matches "$1"
}

go_possible() {
    return 0
}

go_by_hand() {
    echo "run: $HERE/setup $1"
}

go_install() { # TOOL
    local tool=$1 programs imports tests at verb package
    read -ra programs <<<"$(field "$tool" program)"
    read -ra imports <<<"$(field "$tool" import)"
    read -ra tests <<<"$(field "$tool" test)"
    say "$tool" "fetches its modules"
    retry "$tool" "the download" go_in "$tool" list -deps ${tests:+-test} "${imports[@]}" "${tests[@]}" || return
    for at in "${!programs[@]}"; do
        say "$tool" "builds ${programs[at]}"
        verb=(build) package=${imports[at]-}
        [[ $package ]] || verb=(test -c) package=${tests[at - ${#imports[@]}]}
        step "$tool" go_in "$tool" "${verb[@]}" -o "$WORK/${programs[at]}" -ldflags "-s -w $(field "$tool" ldflags)" "$package" || return
        mv "$WORK/${programs[at]}" "$TOOLS/bin/${programs[at]}" || return
    done
    pin_keep "$tool"
}

# The user's own Go settings must not reach what is pinned here.
go_in() ( # TOOL ARGUMENT…
    cd "$DEFS/$1" || return
    shift
    unset GOROOT GOOS GOARCH GOAMD64 GOEXPERIMENT
    export GOFLAGS='-mod=readonly -trimpath -buildvcs=false' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0
    limited "$(gosdk_path)" "$@"
)
