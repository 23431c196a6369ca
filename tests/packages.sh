#!/bin/sh
# Debian packages that the tests start as real peers: installed when root, named otherwise.
#   packages.sh         everything the tests need
#   packages.sh venv    only what a virtual environment needs
set -eu
missing=""
need() { # need COMMAND PACKAGE...
    probe=$1
    shift
    if ! command -v "$probe" >/dev/null 2>&1 && [ ! -x "$probe" ]; then missing="$missing $*"; fi
}
if [ "${1:-}" = venv ]; then
    python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv python3-pip"
else
    need /usr/sbin/postfix postfix
    need /usr/sbin/dovecot dovecot-imapd dovecot-pop3d
    need mbsync isync
    # mbsync logs in with what SASL modules are there; Debian 13's isync comes without any
    ls /usr/lib/*/sasl2/libplain.so >/dev/null 2>&1 || missing="$missing libsasl2-modules"
    need fetchmail fetchmail
    need getmail getmail6
    need offlineimap offlineimap3
    need mutt mutt
    need tmux tmux
    need zbarimg zbar-tools
    need swaks swaks
    need openssl openssl
    need faketime faketime
    perl -MNet::SSLeay -e 1 >/dev/null 2>&1 || missing="$missing libnet-ssleay-perl"
    need /usr/sbin/smbd samba
    # an object store with an S3 face, one of each of its servers
    need swift-proxy-server swift-proxy swift-account swift-container swift-object
    need /usr/bin/chromium chromium fonts-dejavu-core
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "tests need these Debian packages:$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
# policy-rc.d keeps Debian from starting the daemons: the tests start private ones
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing >/dev/null
