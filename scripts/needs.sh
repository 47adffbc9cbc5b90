# Sourced by the scripts: what they need, and how it is installed on Debian.
# shellcheck shell=bash

# needs PROGRAM=PACKAGE...: installs the packages of the programs that are missing, and says so. Their services are not
# started.
needs() {
    local pair package missing=()
    for pair in "$@"; do
        # sbin is not in everybody's PATH.
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]} (Debian package names): install them, or run this as root on Debian" >&2
        return 1
    fi
    echo "installing: ${missing[*]}"
    apt-get update -qq
    local new=()
    for package in "${missing[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || new+=("$package")
    done
    install_silently "${missing[@]}"
    # Nor at the next boot: what needs a service here starts its own. Packages that were there keep theirs.
    local units
    mapfile -t units < <([ ${#new[@]} = 0 ] || dpkg -L "${new[@]}" | sed -nE 's,^.*/lib/systemd/system/([^@/]+\.(service|socket|timer))$,\1,p')
    if [ ${#units[@]} -gt 0 ] && command -v systemctl >/dev/null; then
        systemctl --root=/ --quiet disable "${units[@]}" 2>/dev/null || true
    fi
}

# install_silently PACKAGE...: without starting the services that come with them. Package scripts ask policy-rc.d (in
# invoke-rc.d and deb-systemd-invoke); 101 says no.
install_silently() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
)

# needs_resolved: systemd-resolved and resolvectl in target/systemd-resolved, for tests to start in namespaces of their
# own. The package is not installed: that would make it the machine's own resolver. Without it, those tests say that they
# are left out.
needs_resolved() (
    resolved() { ls {/usr,,"$folder/usr","$folder"}/lib/systemd/systemd-resolved 2>/dev/null | head -n1; }
    folder=target/systemd-resolved
    if [ -z "$(resolved)" ]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
            echo "no systemd-resolved, and no Debian to fetch it from: its tests are left out"
            return 0
        fi
        mkdir -p "$folder"
        fetch() { (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root systemd-resolved 2>&1 | tail -n1); }
        why=$(fetch) || true
        if ! ls "$folder"/*.deb >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
            # A fresh machine has no lists of packages.
            why=$(apt-get update -qq && fetch) || true
        fi
        if ! dpkg-deb -x "$folder"/*.deb "$folder" 2>/dev/null; then
            echo "systemd-resolved cannot be fetched ($why): its tests are left out"
            return 0
        fi
        rm -f "$folder"/*.deb
        echo "fetched, not installed: systemd-resolved"
    fi
    # The library it shares with systemd, where there is no systemd. It is only a library.
    if ldd "$(resolved)" | grep -q 'libsystemd-shared.*not found'; then needs no-such-program=libsystemd-shared; fi
)

# needs_rust: a cargo of at least the rust-version in Cargo.toml, also where rustup put it.
needs_rust() {
    local wanted have=none
    export PATH="$PATH:$HOME/.cargo/bin"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    needs cc=gcc
    [ -e /usr/include/stdio.h ] || needs no-such-program=libc6-dev
    if command -v cargo >/dev/null; then
        have=$(cargo --version | cut -d' ' -f2)
        if [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n1)" = "$wanted" ]; then return 0; fi
    fi
    echo "Rust $wanted or newer is needed, found: $have. To get it: curl -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    return 1
}
