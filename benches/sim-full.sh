#!/usr/bin/env bash
# The whole fabric experiment, as long as it takes until also the longest messages are judged: hours of two cores. Writes one JSON
# object and one picture for each workload and load to the folder of the first argument (default: target/sim-full).
# W4 and W5 run on 48 hosts: their longest messages take tenths of a second, which 144 hosts cannot be simulated for in that time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-target/sim-full}
mkdir -p "$out"
cargo build --release -p sealane-cli

run() {
  local name=$1
  shift
  printf '%s: ' "$name"
  target/release/sealane sim fabric --json --svg "$out/$name.svg" "$@" >"$out/$name.json" || true
  python3 - "$out/$name.json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
print("ok", report["ok"], *("{}:{}".format(row["position"], row["ratio_to_homa"]) for row in report["rows"]))
PYTHON
}

for load in 0.5 0.8; do
  for overhead in on off; do
    for workload in w1 w2 w3; do
      run "$workload-$load-$overhead" --workload "$workload" --load "$load" --overhead "$overhead" --messages 3000000
    done
    run "w4-$load-$overhead" --workload w4 --load "$load" --overhead "$overhead" --hosts 48 --messages 200000 --drain 2
    run "w5-$load-$overhead" --workload w5 --load "$load" --overhead "$overhead" --hosts 48 --messages 80000 --drain 1
  done
done
for overhead in on off; do
  run "w4-0.8-$overhead-144" --workload w4 --overhead "$overhead" --messages 200000 --drain 2
done
