#!/usr/bin/env bash
# What it takes the processor to have a message sealed by a card, beside sealing it itself: `benches/offload.sh [--json]`. Takes two minutes
# after the build.
#
# Counted by callgrind is all that the shipped engine and its guard execute for a message, copies into the card's memory, descriptors, ring,
# doorbell and completions included; behind them is a card that does nothing (benches/micro/src/bin/engine.rs). Beside it the cipher of the
# default build over the same records, and nothing else. Each is the difference of two runs of different length, less what making and binding
# the message takes, which both need. Callgrind's processor has AES-NI but none of the wider instructions, so the cipher takes more of them
# there than here: the nanoseconds, best of five runs, are of this machine, and say which is cheaper on it.
#
# Needs valgrind; installs it by apt-get where it is missing and this is root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
if ! command -v valgrind >/dev/null; then
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then echo "offload: valgrind is missing" >&2 && exit 1; fi
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valgrind; } >&2
fi
cargo build --locked --release -p micro --bin engine >&2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Instructions of `engine $1 $2 $3 $4`.
count() {
  valgrind --tool=callgrind --callgrind-out-file="$scratch/out" target/release/engine "$@" >"$scratch/said" 2>"$scratch/err" ||
    { cat "$scratch/err" >&2 && exit 1; }
  awk '/^totals:/ { print $2 }' "$scratch/out"
}

# Nanoseconds of the same, the best of five runs.
time_of() {
  for _ in 1 2 3 4 5; do
    local before=$(date +%s%N)
    target/release/engine "$@" >/dev/null
    echo $(($(date +%s%N) - before))
  done | sort -n | head -1
}

# Per message: `each instructions|time_of WHO BYTES OPEN MESSAGES`.
each() { echo $((($("$1" "$2" "$3" $((3 * $5)) "$4") - $("$1" "$2" "$3" "$5" "$4")) / (2 * $5))); }

rows=()
for point in "64 1" "512 1" "1024 1" "16384 1" "1048576 1" "64 64" "512 64" "1024 64" "16384 64" "1048576 64"; do
  read -r bytes open <<<"$point"
  messages=$((bytes > 100000 ? 64 : 640))
  many=$((bytes > 100000 ? 640 : bytes > 10000 ? 64000 : 640000))
  declare -A found=()
  for who in none card aead; do
    found[$who]=$(each count "$who" "$bytes" "$open" "$messages")
    found[${who}_ns]=$(each time_of "$who" "$bytes" "$open" "$many")
  done
  target/release/engine card "$bytes" "$messages" "$open" >"$scratch/said"
  read -r descriptors resyncs ring <"$scratch/said"
  rows+=("$bytes $open $descriptors $resyncs $ring $((found[card] - found[none])) $((found[aead] - found[none])) \
$((found[card_ns] - found[none_ns])) $((found[aead_ns] - found[none_ns]))")
  echo "offload: $bytes bytes, $open open" >&2
done

if [[ ${1:-} == --json ]]; then
  for row in "${rows[@]}"; do
    read -r bytes open descriptors resyncs ring engine aead engine_ns aead_ns <<<"$row"
    printf '{"bytes":%d,"open":%d,"descriptors":%s,"resyncs":%s,"ring_bytes":%s,"engine_instructions":%d,"aead_instructions":%d,"engine_ns":%d,"aead_ns":%d}\n' \
      "$bytes" "$open" "$descriptors" "$resyncs" "$ring" "$engine" "$aead" "$engine_ns" "$aead_ns"
  done
else
  printf '%9s %5s %12s %8s %11s %8s %10s %10s %8s\n' bytes open descriptors resyncs ring-bytes engine aead engine-ns aead-ns
  for row in "${rows[@]}"; do
    # shellcheck disable=SC2086 # the row is its columns
    printf '%9s %5s %12s %8s %11s %8s %10s %10s %8s\n' $row
  done
fi
