# kind=rootfs: a root file system of Debian's packages as rootfs/NAME.tar, for images that are made
# on this machine. The same packages make the same bytes; which versions they have is the archive's.
#   packages=  what is in it besides what Debian cannot be without
#   without=   what is taken out of it again, by patterns of paths

rootfs_present() {
    [[ -f $TOOLS/rootfs/$1.tar ]] && pin_matches "$1"
}

rootfs_possible() {
    ((EUID == 0)) && type -P apt-get >/dev/null
}

rootfs_by_hand() {
    echo "as root on Debian, run: $HERE/setup $1"
}

rootfs_install() { # TOOL
    say "$1" "makes a root file system of Debian's packages"
    retry "$1" "the download" rootfs_make "$1" || return
    mkdir -p "$TOOLS/rootfs" && mv "$WORK/$1.tar" "$TOOLS/rootfs/$1.tar" && pin_keep "$1"
}

rootfs_make() { # TOOL
    local suite packages
    suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    packages=$(field "$1" packages)
    rm -f "$WORK/$1.tar"
    SOURCE_DATE_EPOCH=0 limited mmdebstrap --quiet --variant=essential --include="${packages// /,}" \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/var/cache/apt "$1"/var/log/*' \
        --customize-hook="cd \"\$1\" && rm -rf -- $(field "$1" without)" \
        "$suite" "$WORK/$1.tar" $(rootfs_sources)
}

# Where this machine's own packages come from.
rootfs_sources() {
    compgen -G '/etc/apt/sources.list.d/debian.sources' || { [[ -s /etc/apt/sources.list ]] && echo /etc/apt/sources.list; }
}
