#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what Weir needs on Debian 12. Quick, silent and offline when nothing is missing.
#
#     tools/deps.sh [build] [demo] [test] [bench]      without words: everything
set -eu

# for      package            why
packages='
build      gcc                the compiler
build      libc6-dev          its headers
build      make               this build
build      binutils           ar, and nm for the tidy check
build      libssl-dev         HMAC-SHA-256 of tokens
build      libyaml-dev        the configuration file
build      liblmdb-dev        bindings of the registrar, on disk
build      libc-ares-dev      name resolution (RFC 3263) off the message path
demo       python3            the scripts of demo, bench and tests
demo       sip-tester         SIPp, the callers and servers of demo, bench and tests
test       clang              the second compiler, and libFuzzer
test       libclang-rt-dev    sanitizers and libFuzzer of clang
test       llvm               names in sanitizer reports
test       libcmocka-dev      unit tests
test       libwslay-dev       WebSocket frames as another implementation sees them
demo       openssl            makes certificates
demo       baresip-core       phones of demo and tests
demo       chromium           the browser of a browser phone
demo       nodejs             starts it, and is a client of its own
demo       npm                brings SIP.js and JsSIP
test       gnutls-bin         another TLS client
test       sipsak             another SIP client
test       kamailio           another proxy before and behind Weir
test       kamailio-outbound-modules    its flow tokens
test       kamailio-tls-modules    its TLS
test       iproute2           networks of a test of its own
test       nftables           NATs in them
bench      valgrind           callgrind counts instructions
bench      perl               its annotator is written in it
bench      kamailio           the proxy to compare with
'

wanted=" ${*:-build demo test bench} "
case "$wanted" in *\ demo\ * | *\ test\ * | *\ bench\ *) wanted="$wanted build demo " ;; esac

missing=$(echo "$packages" | while read -r what package why; do
    [ -n "$what" ] || continue
    case "$wanted" in *" $what "*) ;; *) continue ;; esac
    [ "$package" = npm ] && command -v npm > /dev/null && continue # some bring it with nodejs
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
        echo "$package"
done | sort -u)

# The browser phones' libraries, from the npm registry, as the lock file says.
web_phones() {
    case "$wanted" in *\ demo\ *) ;; *) return 0 ;; esac
    cd "$(dirname "$0")/../test/web"
    cmp -s package-lock.json node_modules/.weir-lock && return 0
    echo "installing: sip.js jssip ws (npm)"
    npm ci --no-audit --no-fund --ignore-scripts > /dev/null || return 1
    cp package-lock.json node_modules/.weir-lock
}

[ -n "$missing" ] || { web_phones; exit; }

if [ "$(id -u)" != 0 ]; then
    echo "tools/deps.sh: as root: apt-get install --no-install-recommends" $missing >&2
    exit 1
fi
echo "installing:" $missing

# A package that is a service would be started by its installation: nothing here wants that.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } > "$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
web_phones
