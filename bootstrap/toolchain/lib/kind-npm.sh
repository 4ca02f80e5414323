# kind=npm: a package of npm and all that it depends on, as package-lock.json in the tool's folder
# pins them by checksum. They go to NAME/node_modules; no script of a package is run.

npm_present() {
    [[ -d $TOOLS/$1/node_modules ]] && pin_matches "$1"
}

npm_possible() {
    return 0
}

npm_by_hand() {
    echo "run: $HERE/setup $1"
}

npm_install() { # TOOL
    say "$1" "fetches its packages"
    retry "$1" "the download" npm_fetch "$1" || return
    rm -rf "${TOOLS:?}/$1"
    mv "$WORK/$1" "$TOOLS/$1" && pin_keep "$1"
}

# `npm ci` takes what the lock names and compares its checksums, or fails.
npm_fetch() ( # TOOL
    rm -rf "${WORK:?}/$1" && mkdir -p "$WORK/$1" || return
    cp "$DEFS/$1/package.json" "$DEFS/$1/package-lock.json" "$WORK/$1/" || return
    cd "$WORK/$1" || return
    limited npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
)
