# kind=gofiles: files out of a Go module that is not built, such as manifests. They go to NAME/.
#   module=  path@version      sum=  its checksum, as go.sum writes it
#   files=   paths in the module, without its own

gofiles_present() {
    local file
    for file in $(field "$1" files); do
        [[ -f $TOOLS/$1/${file##*/} ]] || return 1
    done
    pin_matches "$1"
}

gofiles_possible() {
    return 0
}

gofiles_by_hand() {
    echo "run: $HERE/setup $1"
}

gofiles_install() { # TOOL
    say "$1" "fetches $(field "$1" module)"
    retry "$1" "the download" gofiles_fetch "$1" || return
    step "$1" grep -F "\"Sum\": \"$(field "$1" sum)\"" "$WORK/$1.json" || { say "$1" "its checksum is not the pinned one, nothing is installed"; return 1; }
    step "$1" gofiles_take "$1" || return
    rm -rf "${TOOLS:?}/$1"
    mv "$WORK/$1" "$TOOLS/$1" && pin_keep "$1"
}

# Leaves what Go says of the module, its checksum and its folder too, in NAME.json.
gofiles_fetch() ( # TOOL
    cd "$WORK" || return
    unset GOROOT
    export GOTOOLCHAIN=local GOFLAGS=-mod=mod GOWORK=off
    limited "$(gosdk_path)" mod download -json "$(field "$1" module)" >"$1.json" || { cat "$1.json"; return 1; }
)

gofiles_take() { # TOOL
    local file folder
    folder=$(sed -n 's/^.*"Dir": "\(.*\)",\{0,1\}$/\1/p' "$WORK/$1.json")
    mkdir -p "$WORK/$1" || return
    for file in $(field "$1" files); do
        install -m 644 "$folder/$file" "$WORK/$1/" || return
    done
}
