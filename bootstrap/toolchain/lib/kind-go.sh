# kind=go: a program built from its Go module, which go.mod and go.sum in the tool's folder pin
# (go refuses what does not match go.sum).
#   import=  the package to build       program=  the file's name in bin/
#   ldflags=  added to -s -w

go_present() {
    [[ -x $TOOLS/bin/$(field "$1" program) ]] && pin_matches "$1"
}

go_possible() {
    return 0
}

go_by_hand() {
    echo "run: $HERE/setup $1"
}

go_install() { # TOOL
    local tool=$1 program import
    program=$(field "$tool" program) import=$(field "$tool" import)
    say "$tool" "fetches its modules"
    retry "$tool" "the download" go_in "$tool" list -deps "$import" || return
    say "$tool" "builds"
    step "$tool" go_in "$tool" build -o "$WORK/$program" -ldflags "-s -w $(field "$tool" ldflags)" "$import" || return
    mv "$WORK/$program" "$TOOLS/bin/$program" || return
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
