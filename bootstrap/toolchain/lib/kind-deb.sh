# kind=deb: a program from Debian's packages (signed by the archive, so no checksum here).
#   packages=  what to install          program=  what it brings: names or paths with *
#   minimum=   oldest version that serves          version=  arguments that print it
# Installed in one transaction per batch, without starting any daemon.

POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# comind-ops toolchain: no daemon starts during its installs'

deb_present() {
    programs_present "$1" && version_suffices "$1"
}

deb_possible() {
    command -v apt-get >/dev/null && ((EUID == 0))
}

deb_by_hand() {
    local packages
    packages=$(field "$1" packages)
    if command -v apt-get >/dev/null; then
        echo "as root: apt-get install --no-install-recommends $packages"
    else
        echo "no apt-get here: install what has \`$(field "$1" program)\` by your system's means (Debian: apt-get install --no-install-recommends $packages)"
    fi
}

# Fetches and installs the packages of all these tools.
deb_install() { # TOOL…
    local tool packages=()
    for tool in "$@"; do
        read -ra more <<<"$(field "$tool" packages)"
        packages+=("${more[@]}")
    done
    say apt "fetches ${packages[*]}"
    step apt dpkg --configure -a || true
    retry apt "the download" deb_download "${packages[@]}" || return
    say apt "installs ${#packages[@]} packages and what they depend on"
    deb_quietly "${packages[@]}"
}

# The lists are refreshed only where they do not lead to the packages.
deb_download() { # PACKAGE…
    apt_get install --download-only "$@" && return
    apt_get update && apt_get install --download-only "$@"
}

deb_quietly() ( # PACKAGE…
    trap policy_restore EXIT
    trap 'exit 143' TERM
    policy_forbid
    step apt apt_get install "$@"
)

# The usual way to keep a package from starting its daemon; a machine's own policy stays.
policy_forbid() {
    [[ ! -e $POLICY ]] || return 0
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY"
    chmod 755 "$POLICY"
}

policy_restore() {
    ! grep -qsxF "$POLICY_MARK" "$POLICY" || rm -f "$POLICY"
}

apt_get() { # ARGUMENT…
    DEBIAN_FRONTEND=noninteractive limited apt-get --yes --quiet --no-install-recommends \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold -o APT::Update::Error-Mode=any "$@"
}
