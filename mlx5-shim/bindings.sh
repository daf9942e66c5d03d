#!/usr/bin/env bash
# Makes src/sys/*.rs from rdma-core's headers, restricted to what load.rs and hw.rs use: `mlx5-shim/bindings.sh` writes it,
# `mlx5-shim/bindings.sh --check` fails if the committed files differ from what would be written.
#
# The headers must be those of rdma-core 44 (Debian 12): others differ in what we do not use, so with them nothing is compared, and that
# is said. Needs libclang and bindgen 0.73.2; installs what is missing where this is root. BINDGEN names another bindgen than PATH's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec </dev/null
version=0.73.2
headers=44

installed() { dpkg-query -W -f='${Version}' libibverbs-dev 2>/dev/null || true; }
if [[ -z $(installed) ]] || ! command -v clang >/dev/null || ! ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1; then
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then echo "bindings: libibverbs-dev or libclang is missing" >&2 && exit 1; fi
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libibverbs-dev libclang-dev clang; } >&2
fi
if [[ $(installed) != "$headers".* ]]; then
  echo "bindings: NOT COMPARED: src/sys is of rdma-core $headers, installed is $(installed)"
  exit "$([[ ${1:-} == --check ]] && echo 0 || echo 1)"
fi
bindgen=${BINDGEN:-bindgen}
if [[ $("$bindgen" --version 2>/dev/null || true) != "bindgen $version" ]]; then
  cargo install --locked bindgen-cli@"$version" >&2
  bindgen=${CARGO_HOME:-$HOME/.cargo}/bin/bindgen
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# verbs.h has macros in front of two functions; the library exports them under the same names.
printf '%s\n' '#include <infiniband/verbs.h>' '#undef ibv_reg_mr' '#undef ibv_get_device_list' '#include <infiniband/mlx5dv.h>' >"$scratch/all.h"
options=(--no-doc-comments --no-layout-tests --use-core --default-enum-style consts --no-prepend-enum-name
  --dynamic-link-require-all --disable-header-comment --no-derive-debug)
verbs='ibv_(get_device_list|free_device_list|get_device_name|close_device|alloc_pd|dealloc_pd|reg_mr|dereg_mr|create_cq|destroy_cq'
verbs+='|create_qp|modify_qp|destroy_qp)'
mlx5='mlx5dv_(is_supported|open_device|init_obj|devx_general_cmd|devx_obj_create|devx_obj_destroy)'
# What we only pass on, and what only stands inside of something.
opaque='ibv_(context|device|cq|comp_channel|srq|td|xrcd|wq|recv_wr|dm|ah|ah_attr)|mlx5dv_(devx_obj|srq|rwq|dm|ah)|pthread_(mutex|cond)_t'
types='pthread_(mutex|cond)_t|mlx5dv_(devx_obj|obj|context_attr|qp|cq|pd|obj_type|context_attr_flags)|ibv_(device|comp_channel|pd|mr|qp|qp_attr|qp_init_attr|qp_attr_mask|access_flags)'
head() {
  echo "//! Owns $1, as the headers of rdma-core $headers have them. Written by"
  echo "//! mlx5-shim/bindings.sh; not to be changed by hand. Nothing is linked: functions are looked up at run time."
  echo "use super::*;"
}
{
  head "the C types of libibverbs and libmlx5 that we use"
  "$bindgen" "$scratch/all.h" "${options[@]}" --opaque-type "$opaque" --allowlist-type "$types"
} | grep -v '^use super' >"$scratch/types.rs"
{
  head "the functions of libibverbs that we use"
  "$bindgen" "$scratch/all.h" "${options[@]}" --dynamic-loading Verbs --allowlist-function "$verbs" --blocklist-type '.*'
} >"$scratch/verbs.rs"
{
  head "the functions of libmlx5 that we use"
  "$bindgen" "$scratch/all.h" "${options[@]}" --dynamic-loading Mlx5 --allowlist-function "$mlx5" --blocklist-type '.*'
} >"$scratch/mlx5.rs"
for file in types verbs mlx5; do
  rustfmt --config-path ../rustfmt.toml "$scratch/$file.rs"
  if [[ ${1:-} == --check ]]; then
    diff -u "src/sys/$file.rs" "$scratch/$file.rs" || { echo "bindings: src/sys/$file.rs is not what bindings.sh writes" >&2 && exit 1; }
  else
    cp "$scratch/$file.rs" "src/sys/$file.rs"
  fi
done
[[ ${1:-} != --check ]] || echo "bindings: src/sys is what the headers give"
