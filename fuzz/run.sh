#!/usr/bin/env bash
# Fuzzes each target for so many seconds (default: 600), or only those that are named. Installs what it needs: a nightly compiler and
# cargo-fuzz. New inputs go to fuzz/found/; `fuzz/run.sh keep` makes the smallest set of these that reaches as much, and puts it into
# fuzz/corpus/, which the tests replay.
#   fuzz/run.sh [SECONDS [TARGET...]]
#   fuzz/run.sh keep
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
all=(packet open flight control trailer acts ticket)
cd ..

if [[ ${1:-} == keep ]]; then
  for target in "${all[@]}"; do
    [[ -d fuzz/found/$target ]] || continue
    # Small ones only: they are replayed by each run of the tests.
    smallest=$(mktemp -d)
    cargo +nightly fuzz run "$target" "$smallest" fuzz/corpus/"$target" fuzz/found/"$target" -- -merge=1 -max_len=400 2>/dev/null
    find "$smallest" -type f -printf '%s %p\n' | sort -n | head -150 | cut -d' ' -f2 | xargs -I{} cp {} fuzz/corpus/"$target"/
    rm -r "$smallest"
  done
  exit
fi

seconds=${1:-600}
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=("${all[@]}")
for target in "${targets[@]}"; do
  mkdir -p "fuzz/found/$target"
  printf '%s: ' "$target"
  log=$(mktemp)
  if cargo +nightly fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -print_final_stats=1 -timeout=20 -max_len=4096 >"$log" 2>&1; then
    awk '/number_of_executed_units/ { n = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
      END { print n " inputs, " cov " edges, no crash" }' "$log"
  else
    tail -40 "$log"
    exit 1
  fi
done
