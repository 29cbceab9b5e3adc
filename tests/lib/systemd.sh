#!/usr/bin/env bash
# Checks what systemd/ holds, without a running systemd and without installing anything. Called by `tests/run systemd`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT/systemd"

# Highest exposure accepted from `systemd-analyze security`, in tenths (its scale is 0.0 to 10.0). Both units are below it on systemd 252; the
# margin is for releases that add tests.
EXPOSURE_LIMIT=18

work=$(mktemp -d)
trap 'as_root rm -rf "$work"' EXIT

note() { printf '| %s\n' "$*"; }
# Runs a checker whose every word is a complaint, whatever its exit status.
silent() {
    local output status=0
    output=$("$@" 2>&1) || status=$?
    [ "$status" = 0 ] && [ -z "$output" ] && return 0
    printf '%s\n' "$output"
    note "complaints (status $status) from: $*"
    return 1
}

# ---- units ----------------------------------------------------------------------------------------------------------------------

mkdir "$work/units"
version=$(systemd-analyze --version | awk 'NR == 1 { print $2 }')
older=
[ "$version" -ge 253 ] || older='s/^Type=notify-reload$/Type=notify/'
install -m 755 /bin/true "$work/program"
for unit in *.service; do
    # The programs are not in /usr/bin here, and `verify` insists on them. Nothing else is changed.
    # systemd 252 knows no notify-reload, which came with 253; it would ignore the line with a warning.
    sed "s#^ExecStart=/usr/bin/onyx-[a-z]*#ExecStart=$work/program#; $older" "$unit" >"$work/units/$unit"
    silent systemd-analyze verify --man=no "$work/units/$unit"
    note "$unit: verified by systemd $(systemd-analyze --version | awk 'NR == 1 { print $2 }')"
    # Offline, it reads the file and not a running service.
    systemd-analyze security --offline=true --threshold="$EXPOSURE_LIMIT" --no-pager "$work/units/$unit" >"$work/security" || {
        cat "$work/security"
        note "$unit: exposed more than the limit of $EXPOSURE_LIMIT tenths"
        exit 1
    }
    cat "$work/security"
    note "$unit: $(sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]* [A-Z]*\).*/exposure \1/p' "$work/security")"
done

# A socket is verified beside the service that it starts.
for unit in *.socket; do
    cp "$unit" "$work/units/$unit"
    silent systemd-analyze verify --man=no "$work/units/$unit"
    note "$unit: verified"
done

# ---- users and folders ----------------------------------------------------------------------------------------------------------

# Done for real, in an empty root.
image=$work/image
mkdir -p "$image/etc/onyx" "$image/usr/lib/sysusers.d" "$image/usr/lib/tmpfiles.d"
touch "$image/etc/onyx/agent.toml" "$image/etc/onyx/gateway.toml"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$image/etc/passwd"
printf 'root:x:0:\n' >"$image/etc/group"
cp onyx.sysusers.conf "$image/usr/lib/sysusers.d/onyx.conf"
cp onyx.tmpfiles.conf "$image/usr/lib/tmpfiles.d/onyx.conf"
# systemd-tmpfiles distrusts a root that an ordinary user could change under its hands.
as_root chown -R root:root "$image"
as_root systemd-sysusers --root="$image" onyx.conf
for user in onyx onyx-gateway; do
    grep -q "^$user:[^:]*:[0-9]*:[0-9]*:[^:]*:/var/lib/$user:.*nologin$" "$image/etc/passwd" || {
        note "sysusers did not make $user as meant: $(grep "^$user:" "$image/etc/passwd")"
        exit 1
    }
done
silent as_root systemd-tmpfiles --root="$image" --create onyx.conf
group_id() { awk -F: -v name="$1" '$1 == name { print $3 }' "$image/etc/group"; }
expect_access() {
    local got
    got=$(as_root stat -c '%a %u %g' "$image$1")
    [ "$got" = "$2" ] || {
        note "tmpfiles: $1 is '$got' (mode, user, group), expected '$2'"
        exit 1
    }
}
expect_access /etc/onyx "755 0 0"
expect_access /etc/onyx/agent.toml "640 0 $(group_id onyx)"
expect_access /etc/onyx/gateway.toml "640 0 $(group_id onyx-gateway)"
note "users and folders: made as meant in an empty root"

# ---- the udev rule --------------------------------------------------------------------------------------------------------------

# Prints what udev has to say about rule file $1. `udevadm verify` is there since systemd 254; before it, udev's parser is made to read the file
# in a mount namespace of its own, and complains with the file's name and line.
udev_complaints() {
    if udevadm verify --help >/dev/null 2>&1; then
        udevadm verify "$1" 2>&1 | grep -E "^$1:" || true
    else
        as_root unshare --mount sh -euc '
            mount -t tmpfs none /run
            mkdir -p /run/udev/rules.d
            cp "$1" /run/udev/rules.d/
            udevadm test /devices/virtual/mem/null 2>&1' sh "$1" >"$work/udev" || true
        # That it was read at all is part of the proof.
        grep -q "Reading rules file: /run/udev/rules.d/${1##*/}" "$work/udev" ||
            printf '%s\n' "udevadm did not read $1:" "$(tail -n 3 "$work/udev")"
        grep "^/run/udev/rules.d/${1##*/}:" "$work/udev" || true
    fi
}
# First a rule that is wrong, so that silence about ours means something.
printf 'SUBSYSTEM=="tty", SYMLINK+"onyx-at"\n' >"$work/70-wrong.rules"
wrong=$(udev_complaints "$work/70-wrong.rules")
[[ $wrong = *70-wrong.rules:1* ]] || {
    note "udevadm does not find what is wrong with a broken rule, so this check proves nothing here: ${wrong:-it says nothing}"
    exit 1
}
complaints=$(udev_complaints "$PWD/70-onyx.rules")
[ -z "$complaints" ] || {
    note "udev rule: $complaints"
    exit 1
}
note "70-onyx.rules: read by udev $(udevadm --version) without complaint"
