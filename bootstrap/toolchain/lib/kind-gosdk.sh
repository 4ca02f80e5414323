# kind=gosdk: Go itself. A new enough one on the machine is used; otherwise any old one (such as
# Debian's) fetches the pinned release as the module golang.org/toolchain.
#   minimum=  oldest that builds our tools         release=  what is fetched
#   sum_amd64=, sum_arm64=  its checksums, as go.sum writes them

gosdk_present() {
    gosdk_path >/dev/null
}

gosdk_possible() {
    return 0
}

gosdk_by_hand() {
    echo "put Go $(field "$1" minimum) or newer into PATH, or run: $HERE/setup $1"
}

gosdk_path() {
    local go
    for go in "$TOOLS/go/bin/go" "$(type -P go)"; do
        [[ -x $go ]] && at_least "$(field go minimum)" "$(env -u GOROOT GOTOOLCHAIN=local "$go" version)" && { echo "$go"; return; }
    done
    return 1
}

gosdk_install() { # TOOL
    local module arch
    arch=$(uname -m) arch=${arch/x86_64/amd64} arch=${arch/aarch64/arm64}
    module=golang.org/toolchain@v0.0.1-go$(field "$1" release).linux-$arch
    say "$1" "fetches $module"
    retry "$1" "the download" gosdk_fetch "$module" || return
    step "$1" grep -F "\"Sum\": \"$(field "$1" "sum_$arch")\"" "$WORK/go.json" || { say "$1" "its checksum is not the pinned one, nothing is installed"; return 1; }
    step "$1" gosdk_unwrap "$WORK/mod/$module" || return
    rm -rf "$TOOLS/go"
    mv "$WORK/mod/$module" "$TOOLS/go"
}

# Leaves what Go says of the module, its checksum too, in go.json.
gosdk_fetch() ( # MODULE
    cd "$WORK" || return
    export GOMODCACHE=$WORK/mod GOTOOLCHAIN=local GOFLAGS=-modcacherw
    limited go mod download -json "$1" >go.json || { cat go.json; return 1; }
)

# A module zip keeps no execute bits and cannot hold a file named go.mod.
gosdk_unwrap() { # DIRECTORY
    chmod -R +x "$1"/bin "$1"/pkg/tool && find "$1" -name _go.mod -execdir mv {} go.mod \;
}
