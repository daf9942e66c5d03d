#!/usr/bin/env bash
# Where the time of one RPC goes: `benches/where.sh [bytes] [outstanding]`, 64 and 1 if not given. Samples `micro`'s `sockets`, which has both
# ends in one thread on loopback, so that nothing waits and all parts add up. Takes some ten seconds after the build.
#
# Needs perf, and leave to use it (kernel.perf_event_paranoid of 1 or less, or root): says so where either is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
bytes=${1:-64}
outstanding=${2:-1}
rounds=200000

command -v perf >/dev/null || { echo "where: perf is missing (Debian: linux-perf)" >&2 && exit 1; }
cargo build --locked --release -p micro --bin sockets >&2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
perf record -q -e cpu-clock -F 10000 -o "$scratch/data" target/release/sockets "$bytes" $rounds "$outstanding" >"$scratch/said" ||
  { echo "where: perf may not sample here (sysctl kernel.perf_event_paranoid)" >&2 && exit 1; }
# "64 bytes, 1 outstanding: 9876 ns per RPC, both sides"
nanos=$(sed -E 's/.*: ([0-9]+) ns.*/\1/' "$scratch/said")
perf script -i "$scratch/data" -F ip,sym,dso 2>/dev/null | awk -v nanos="$nanos" -v said="$(cat "$scratch/said")" '
  {
    name = $0
    if (name ~ /kernel|bpf_prog/) part = "kernel: send, loopback, receive"
    else if (name ~ /clock_gettime|Timespec|vdso/) part = "reading the clock"
    else if (name ~ /ring_core|ring::|aesni|ghash|gcm|aead|Gcm/) part = "AEAD: two seals, two opens"
    else if (name ~ /mem(move|cpy|set|cmp)/) part = "copying"
    else if (name ~ /libc\.so/) part = "the C library around system calls"
    else if (name ~ /proto::/) part = "proto: RPCs, order, timers, at most once"
    else if (name ~ /endpoint::/) part = "endpoint: sessions, buffers, events"
    else if (name ~ /(wire|record)::/) part = "wire and record: headers, budgets"
    else if (name ~ /udp::/) part = "udp: system calls and their arguments"
    else if (name ~ /sealane::/) part = "sealane: the lock, the inbox, the API"
    else part = "other"
    count[part]++
    sum++
  }
  END {
    print said " (with perf)"
    for (part in count) printf "%5.1f %%  %6.0f ns  %s\n", 100 * count[part] / sum, nanos * count[part] / sum, part | "sort -rn"
    close("sort -rn")
    printf "100.0 %%  %6.0f ns  all\n", nanos
  }'
