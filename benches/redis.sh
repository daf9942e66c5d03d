#!/usr/bin/env bash
# Beside real Redis: starts redis-server with TLS on free ports, runs redis-benchmark against it and against `sealane kv serve`, over TCP and
# TLS, and `sealane kv bench` beside them. Then the same `kv bench` measures redis-server with our module: its TCP, its TLS, and Sealane; left
# out, aloud, where its header cannot be had. Installs redis-server where it is missing (apt, as root).
#   benches/redis.sh [--json] [--quick]
# Rows: {server, peer, workload, value, ops, p50_us, p99_us, server_cpu_us_per_op}; workload is redis-benchmark's `get` or `set`, or YCSB's letter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
json=0 requests=200000 bench=()
for word in "$@"; do
  case $word in
    --json) json=1 ;;
    --quick) requests=20000 bench=(--quick) ;;
    *) echo "usage: benches/redis.sh [--json] [--quick]" >&2; exit 2 ;;
  esac
done
say() { echo "$*" >&2; }

if ! command -v redis-server >/dev/null || ! command -v redis-benchmark >/dev/null; then
  say "installing redis-server"
  apt-get update >&2
  # Its service is none of ours: this script starts one of its own.
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server redis-tools >&2
fi
cargo build --locked --release -p sealane-cli >&2
sealane=target/release/sealane

dir=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT
"$sealane" certs --out "$dir/certs" >&2

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
redis_tcp=$(free_port) redis_tls=$(free_port)
tls=(--tls --cert "$dir/certs/client.pem" --key "$dir/certs/client.key" --cacert "$dir/certs/ca.pem")
# As `kv bench` does with its own server: one core for the server, another for clients, where there are two.
core=(); (($(nproc) > 1)) && core=(taskset -c 1)
module=()
if make -C transport/capi/redis >&2; then
  redis_sealane=$(free_port)
  module=(--loadmodule "$PWD/target/capi-release/redis/sealane.so" "127.0.0.1:$redis_sealane" "$dir/certs/server.pem" "$dir/certs/server.key" "$dir/certs/ca.pem")
else
  say "LEFT OUT: redis-server with the module, which was not built"
fi
"${core[@]}" redis-server --bind 127.0.0.1 --port "$redis_tcp" --tls-port "$redis_tls" --save "" --dir "$dir" "${module[@]}" \
  --tls-cert-file "$dir/certs/server.pem" --tls-key-file "$dir/certs/server.key" --tls-ca-cert-file "$dir/certs/ca.pem" >"$dir/redis.log" &
pids+=($!)
redis_pid=$!
"$sealane" kv serve --tcp 127.0.0.1:0 --tls 127.0.0.1:0 --sealane 127.0.0.1:0 \
  --cert "$dir/certs/server.pem" --key "$dir/certs/server.key" --ca "$dir/certs/ca.pem" >"$dir/kv.log" &
pids+=($!)
kv_pid=$!
for _ in $(seq 100); do
  grep -q '^ready' "$dir/kv.log" && redis-cli -p "$redis_tcp" ping >/dev/null 2>&1 && break
  sleep 0.1
done
kv_tcp=$(sed -n 's/^tcp on .*:\([0-9]*\)$/\1/p' "$dir/kv.log")
kv_tls=$(sed -n 's/^tls on .*:\([0-9]*\)$/\1/p' "$dir/kv.log")

# CPU time of a process in clock ticks.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# measure SERVER PID PEER PORT [options of TLS...]
measure() {
  local server=$1 pid=$2 peer=$3 port=$4 size before after
  shift 4
  for size in 64 1024; do
    for test in set get; do
      before=$(ticks "$pid")
      redis-benchmark -h 127.0.0.1 -p "$port" "$@" -t "$test" -d "$size" -n "$requests" -c 4 -P 16 -r 10000 --csv \
        >"$dir/out.csv" 2>"$dir/err" || { cat "$dir/err" >&2; exit 1; }
      after=$(ticks "$pid")
      python3 - "$dir/out.csv" "$server" "$peer" "$test" "$size" "$((after - before))" "$requests" "$(getconf CLK_TCK)" <<'P' >>"$dir/rows"
import csv, json, sys
path, server, peer, test, size, ticks, requests, hertz = sys.argv[1:]
row = list(csv.DictReader(open(path)))[-1]
print(json.dumps({"server": server, "peer": peer, "workload": test, "value": int(size), "ops": float(row["rps"]),
                  "p50_us": float(row["p50_latency_ms"]) * 1000, "p99_us": float(row["p99_latency_ms"]) * 1000,
                  "server_cpu_us_per_op": round(int(ticks) / int(hertz) * 1e6 / int(requests), 3)}))
P
    done
  done
}
measure redis "$redis_pid" tcp "$redis_tcp"
measure sealane-kv "$kv_pid" tcp "$kv_tcp"
measure redis "$redis_pid" tls "$redis_tls" "${tls[@]}"
measure sealane-kv "$kv_pid" tls "$kv_tls" "${tls[@]}"
say "sealane kv bench"
"$sealane" kv bench --json --workloads a,c --values 64,1024 "${bench[@]}" >"$dir/bench"
echo '{"rows": []}' >"$dir/module"
if ((${#module[@]})); then
  say "sealane kv bench --at: redis-server with the module"
  "$sealane" kv bench --json --workloads a,c --values 64,1024,4096 --rounds 4 "${bench[@]}" --pid "$redis_pid" \
    --at "127.0.0.1:$redis_tcp,127.0.0.1:$redis_tls,127.0.0.1:$redis_sealane" \
    --cert "$dir/certs/client.pem" --key "$dir/certs/client.key" --ca "$dir/certs/ca.pem" >"$dir/module"
fi
python3 - "$dir/rows" "$dir/bench" "$json" "$dir/module" <<'P'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
report = json.load(open(sys.argv[2]))
rows += [dict(server="sealane-kv", **row) for row in report["rows"]]
rows += [dict(server="redis", **row) for row in json.load(open(sys.argv[4]))["rows"]]
if sys.argv[3] == "1":
    print(json.dumps({"rows": rows, "environment": report["environment"]}))
else:
    for row in rows:
        print("{server:<11} {peer:<8} {workload:<4} {value:>6} B {ops:>10.0f}/s  p50 {p50_us:>8.1f} us  p99 {p99_us:>8.1f} us  server {server_cpu_us_per_op:>6.2f} us".format(**row))
P
