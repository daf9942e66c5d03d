#!/usr/bin/env bash
# Writes include/sealane.h from the source; with --check only says whether it is the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case "${1:-}" in
  --check) exec cargo test --locked --quiet -p capi --test header ;;
  "") SEALANE_WRITE_HEADER=1 cargo test --locked --quiet -p capi --test header ;;
  *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac
