#!/usr/bin/env bash
# How many instructions one RPC takes without a kernel, both sides together: `benches/count.sh [SIZE:RPCS...]` prints a line for each size.
# Takes half a minute after the build. `sealane targets` compares: see docs/TOOLS.md.
#
# Counted is what our code and Rust's library execute (callgrind, of `micro SIZE`, the difference of two runs of different length, so that
# what happens once cancels out). Not counted are the AEAD and the C library's memcpy and its like: both choose their code by the
# processor. Another compiler gives other figures.
#
# Needs valgrind; installs it by apt-get where it is missing and this is root.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
points=("$@")
((${#points[@]})) || points=(64:2000 65536:60)
for point in "${points[@]}"; do
  [[ $point =~ ^[0-9]+:[1-9][0-9]*$ ]] || { echo "count: \`$point\` is not SIZE:RPCS" >&2 && exit 2; }
done

if ! command -v valgrind >/dev/null; then
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then echo "count: valgrind is missing" >&2 && exit 1; fi
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valgrind; } >&2
fi
# A cargo above us tells its child about itself, and build scripts that look there would have all they feed built again, and once more after us.
for name in $(compgen -e CARGO_PKG_) $(compgen -e CARGO_MANIFEST_) CARGO CARGO_BIN_NAME CARGO_CRATE_NAME CARGO_PRIMARY_PACKAGE; do unset "$name"; done
cargo build --locked --release -p micro --bin micro >&2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Instructions of ours in one run of `micro $1 $2`.
run() {
  valgrind --tool=callgrind --callgrind-out-file="$scratch/out" target/release/micro "$1" "$2" >/dev/null 2>"$scratch/err" ||
    { cat "$scratch/err" >&2 && exit 1; }
  callgrind_annotate --auto=no --threshold=100 --show=Ir --inclusive=no "$scratch/out" 2>/dev/null | awk '
    # Lines are "1,234 (5.6%)  file:function [object]".
    /^ *[0-9,]+ \(/ && !/PROGRAM TOTALS/ {
      count = $1; gsub(",", "", count)
      name = $0; sub(/^ *[0-9,]+ \([^)]*\) */, "", name)
      if (name ~ /aws_lc|ring_core|(^|[^a-zA-Z])ring::|gcm|ghash|aes_|aesni|chacha|poly1305|_gfm|CRYPTO_/) next
      if (name ~ /mem(cpy|move|set|cmp)|libc\.so|ld-linux|vgpreload/) next
      sum += count
    }
    END { printf "%.0f\n", sum }'
}

# How many RPCs `micro SIZE $1` makes: it warms up with as many, 1,000 at most.
rpcs() { echo $(($1 + ($1 < 1000 ? $1 : 1000))); }

# The same per RPC: $1 bytes, $2 RPCs in the shorter run. Each run on a line of its own: one that fails inside of $((..)) ends nothing.
each() {
  local long short per
  long=$(run "$1" $((3 * $2)))
  short=$(run "$1" "$2")
  per=$(((long - short) / ($(rpcs $((3 * $2))) - $(rpcs "$2"))))
  ((per > 0)) || { echo "count: $long and $short instructions in two runs of $1 bytes: no difference to judge by" >&2 && exit 1; }
  echo "$per"
}

for point in "${points[@]}"; do
  per=$(each "${point%:*}" "${point#*:}")
  echo "micro ${point%:*}: $per"
done
