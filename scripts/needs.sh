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
    if [ "${NETD_NO_INSTALL:-}" = 1 ]; then
        echo "missing: ${missing[*]} (Debian package names): NETD_NO_INSTALL=1 forbids to install them" >&2
        return 1
    fi
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

# needs_resolved, needs_network_manager: systemd-resolved with resolvectl, and NetworkManager with nmcli, in folders of
# target, for tests to start in namespaces of their own. The packages are not installed: that would make them the
# machine's own resolver and manager. Without them, those tests say that they are left out.
needs_resolved() (
    resolved() { ls {/usr,,"$folder/usr","$folder"}/lib/systemd/systemd-resolved 2>/dev/null | head -n1; }
    folder=target/systemd-resolved
    [ -n "$(resolved)" ] || fetched "$folder" systemd-resolved || return 0
    # The library it shares with systemd, where there is no systemd. It is only a library.
    if ldd "$(resolved)" | grep -q 'libsystemd-shared.*not found'; then needs no-such-program=libsystemd-shared; fi
)

needs_network_manager() (
    folder=target/network-manager
    # Where it is installed it has all that it needs.
    PATH="$PATH:/usr/sbin:/sbin" command -v NetworkManager >/dev/null || ls "$folder/usr/sbin/NetworkManager" >/dev/null 2>&1 ||
        fetched "$folder" network-manager libnm0 libndp0 || return 0
)

# fetched FOLDER PACKAGE...: unpacks Debian's packages there; says why, if it cannot.
fetched() {
    local folder=$1 file why
    shift
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "no $1, and no Debian to fetch it from: its tests are left out"
        return 1
    fi
    mkdir -p "$folder"
    fetch() { (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root "$@" 2>&1 | tail -n1); }
    # A fresh machine has no lists of packages, another one old lists.
    if ! why=$(fetch "$@") && { [ "$(id -u)" != 0 ] || ! why=$(apt-get update -qq && fetch "$@"); }; then
        rm -rf "$folder"
        echo "$1 cannot be fetched ($why): its tests are left out"
        return 1
    fi
    for file in "$folder"/*.deb; do
        dpkg-deb -x "$file" "$folder"
    done
    rm -f "$folder"/*.deb
    echo "fetched, not installed: $*"
}

# needs_rust: a cargo of at least the rust-version in Cargo.toml: the one in PATH or of rustup, else the distribution's own
# (Debian 12 has a recent one as cargo-web), else rustup's, in the folder .rust of this project. Nothing of the user's own
# is replaced. Says what it installs before it does.
needs_rust() {
    local wanted
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
    needs cc=gcc
    [ -e /usr/include/stdio.h ] || needs no-such-program=libc6-dev
    ! rust_at_least "$wanted" || return 0
    if [ "${NETD_NO_INSTALL:-}" = 1 ]; then
        echo "Rust $wanted or newer is needed, found: $(rust_found); NETD_NO_INSTALL=1 forbids to install it (https://rustup.rs)" >&2
        return 1
    fi
    rust_of_distribution "$wanted" || rust_of_rustup || true
    ! rust_at_least "$wanted" || return 0
    echo "Rust $wanted or newer is needed, found: $(rust_found), and it could not be installed: see https://rustup.rs" >&2
    return 1
}

# needs_deny: cargo-deny, which is compiled if it is missing.
needs_deny() {
    ! cargo deny --version >/dev/null 2>&1 || return 0
    if [ "${NETD_NO_INSTALL:-}" = 1 ]; then
        echo "cargo-deny is missing (cargo install --locked cargo-deny): NETD_NO_INSTALL=1 forbids to install it" >&2
        return 1
    fi
    echo "installing: cargo-deny (cargo install --locked cargo-deny); this takes minutes, because it is compiled"
    cargo install --locked --quiet cargo-deny || true
    ! cargo deny --version >/dev/null 2>&1 || return 0
    echo "cargo-deny is missing, and cargo install --locked cargo-deny failed: see above" >&2
    return 1
}

# rust_at_least VERSION: whether there is such a cargo; puts it first in PATH.
rust_at_least() {
    local folder have
    for folder in '' "$HOME/.cargo/bin" "$PWD/.rust/cargo/bin"; do
        if [ "$folder" = "$PWD/.rust/cargo/bin" ]; then
            [ -d "$folder" ] || return 1
            export RUSTUP_HOME="$PWD/.rust/rustup" CARGO_HOME="$PWD/.rust/cargo"
        fi
        have=$(PATH="${folder:+$folder:}$PATH" cargo --version 2>/dev/null | cut -d' ' -f2) || have=''
        if [ -n "$have" ] && [ "$(printf '%s\n' "$1" "$have" | sort -V | head -n1)" = "$1" ]; then
            export PATH="${folder:+$folder:}$PATH"
            return 0
        fi
    done
    return 1
}

# rust_found: the version of the cargo in PATH, for messages.
rust_found() {
    PATH="$PATH:$HOME/.cargo/bin" cargo --version 2>/dev/null | cut -d' ' -f2 | grep . || echo none
}

# rust_of_distribution VERSION: the distribution's cargo, where it is recent enough and nothing must go for it.
rust_of_distribution() {
    local package candidate
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    apt-get update -qq || true
    for package in cargo cargo-web; do
        candidate=$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9][0-9.]*\).*/\1/p')
        if [ -n "$candidate" ] && [ "$(printf '%s\n' "$1" "$candidate" | sort -V | head -n1)" = "$1" ]; then
            echo "installing: $package $candidate"
            if install_silently --no-remove "$package"; then return 0; fi
        fi
    done
    return 1
}

# rust_of_rustup: the newest stable Rust in .rust, by the distribution's rustup where it has one, else by the official
# installer. The user's own toolchains and profile are left alone.
rust_of_rustup() {
    export RUSTUP_HOME="$PWD/.rust/rustup" CARGO_HOME="$PWD/.rust/cargo"
    if [ "$(id -u)" = 0 ] && ! command -v rustup >/dev/null && command -v apt-get >/dev/null &&
        apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: *[0-9]'; then
        echo "installing: rustup"
        install_silently --no-remove rustup || true
    fi
    if command -v rustup >/dev/null; then
        echo "installing: Rust into $PWD/.rust (rustup toolchain install stable)"
        mkdir -p "$CARGO_HOME/bin"
        rustup toolchain install stable --profile minimal --component clippy --component rustfmt --no-self-update || return 1
        # Names that lead to this toolchain, as rustup-init makes them.
        local name
        for name in cargo rustc rustdoc rustfmt cargo-fmt cargo-clippy clippy-driver; do
            ln -sf "$(command -v rustup)" "$CARGO_HOME/bin/$name"
        done
        rustup default stable
        return
    fi
    local installer='curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs'
    needs curl=curl
    [ -d /etc/ssl/certs ] || needs no-such-program=ca-certificates
    echo "installing: Rust into $PWD/.rust ($installer | sh -s -- -y --no-modify-path --profile minimal)"
    $installer | sh -s -- -y --quiet --no-modify-path --profile minimal --component clippy --component rustfmt
}
