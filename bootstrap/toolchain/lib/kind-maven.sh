# kind=maven: the jars of an artifact and of all that it depends on, named by pom.xml in the
# tool's folder and checked against sha256sums there.
# They go to NAME/lib.

MAVEN_COPY=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies

maven_present() {
    [[ -d $TOOLS/$1/lib ]] && pin_matches "$1"
}

maven_possible() {
    return 0
}

maven_by_hand() {
    echo "run: $HERE/setup $1"
}

maven_install() { # TOOL
    say "$1" "fetches its jars"
    retry "$1" "the download" maven_fetch "$1" || return
    say "$1" "compares checksums"
    step "$1" maven_verify "$1" || { say "$1" "a jar is not the pinned one, nothing is installed"; return 1; }
    rm -rf "${TOOLS:?}/$1"
    mv "$WORK/$1" "$TOOLS/$1" && pin_keep "$1"
}

maven_fetch() { # TOOL
    rm -rf "${WORK:?}/$1" && mkdir -p "$WORK/$1/lib" || return
    limited mvn --batch-mode --no-transfer-progress --file "$DEFS/$1/pom.xml" "$MAVEN_COPY" \
        -DincludeScope=runtime -DoutputDirectory="$WORK/$1/lib"
}

# Every pinned jar is there as pinned, and nothing else.
maven_verify() { # TOOL
    local pinned=$DEFS/$1/sha256sums
    (cd "$WORK/$1/lib" && sha256sum --check --strict --quiet "$pinned") || return
    diff <(cut -c 67- "$pinned" | LC_ALL=C sort) <(cd "$WORK/$1/lib" && LC_ALL=C ls)
}
