#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The simulator watches for phones that ring twice. Is it awake? Builds it with WEIR_PLANTED_BUG,
# which makes an edge fail over after a 180 as well, and expects it to be caught within 200 seeds.
set -eu
cd "$(dirname "$0")/.."
make -s BUILD=release O=build/planted CFLAGS=-DWEIR_PLANTED_BUG build/planted/sim
if said=$(build/planted/sim --seeds 1:200); then
    echo "planted bug: not found in 200 seeds"
    exit 1
fi
echo "$said" | grep "ringing twice" || {
    echo "planted bug: something else broke: $said"
    exit 1
}
