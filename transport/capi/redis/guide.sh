#!/usr/bin/env bash
# Does what docs/REDIS.md says under "Build, load, try", line by line as it stands there, but for the ports and the packages that are installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
command -v redis-server >/dev/null || { echo "SKIPPED, AND NOT TESTED: docs/REDIS.md: redis-server is not installed"; exit 0; }
root=$PWD dir=$(mktemp -d) server=
finish() {
  [[ -z $server ]] || { kill "$server" && wait "$server"; } || true
  rm -rf "$dir"
}
trap finish EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
tcp=$(free_port) sealane=$(free_port)
mapfile -t lines < <(sed -n '/^## Build, load, try/,/^## /p' docs/REDIS.md | sed -n '/^```$/,/^```$/{/^```$/d;p}')
((${#lines[@]} >= 5)) || { echo "docs/REDIS.md has no such block any more" >&2; exit 1; }
for line in "${lines[@]}"; do
  line=${line%%#*}
  echo "\$ $line"
  line=${line//6379/$tcp} line=${line//6380/$sealane} line=${line/redis-cli/redis-cli -p $tcp} line=${line//--out certs/--out $dir/certs}
  line=${line// certs\// $dir/certs/}
  case $line in
    apt-get*) ;;
    make*)
      eval "$line" || {
        [[ -e target/capi-release/redis/redismodule.h ]] && exit 1
        echo "SKIPPED, AND NOT TESTED: docs/REDIS.md: the header of redis-server cannot be had"
        exit 0
      }
      ;;
    redis-server*)
      line=${line/--loadmodule target/--loadmodule $root/target}
      (cd "$dir" && eval "exec $line") >"$dir/log" &
      server=$!
      for _ in $(seq 200); do redis-cli -p "$tcp" ping >/dev/null 2>&1 && break; sleep 0.1; done
      ;;
    *) eval "$line" | tee "$dir/said" ;;
  esac
done
[[ $(cat "$dir/said") == hello ]] || { cat "$dir/log" >&2; exit 1; }
