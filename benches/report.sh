#!/usr/bin/env bash
# Measures everything and writes it into docs/performance: JSON, a page and a figure per run, and the README's table.
# `benches/report.sh [SECONDS]`: so many for each of the five larger runs (90 by default). Takes about 15 minutes, on a machine that
# should do nothing else. Without kernel TLS and without qemu the rest is still written; what is missing is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
seconds=${1:-90}
cargo build --locked --release -p peers
peers=target/release/peers
out=(--out docs/performance)

"$peers" rtt --sizes 64,1024,8192,65536,1048576 --mode spin --rounds 5 --budget-s "$seconds" "${out[@]}" --name rtt-spin
"$peers" rtt --sizes 64,8192,65536 --mtu 1500 --mode spin --rounds 5 --budget-s "$seconds" "${out[@]}" --name rtt-mtu1500
"$peers" rtt --sizes 64,1024,8192 --mode block --rounds 5 --budget-s "$seconds" "${out[@]}" --name rtt-block
"$peers" rtt --sizes 64,1024,8192 --mode adaptive --rounds 5 --budget-s "$seconds" "${out[@]}" --name rtt-adaptive
"$peers" load --sizes 64,1024,8192,65536 --outstanding 64 --rounds 5 --budget-s "$seconds" "${out[@]}" --name load
"$peers" load --sizes 64 --outstanding 64 --open 0.7 --beside 524288 --peers tcp,ktls-ideal,tls,sealane --rounds 5 --budget-s "$seconds" \
  "${out[@]}" --name load-open
"$peers" bulk --sizes 1048576,67108864 --rounds 5 --budget-s "$seconds" "${out[@]}"
"$peers" memory --sessions 100000 "${out[@]}"
"$peers" cores "${out[@]}"
if benches/vm/run.sh --json >target/vm-report.json; then
  "$peers" guest --show target/vm/result.json "${out[@]}"
else
  echo "report: kernel TLS was not measured; docs/performance/instructions.* are of an earlier run" >&2
fi
"$peers" render docs/performance
