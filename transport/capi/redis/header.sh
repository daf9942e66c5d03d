#!/usr/bin/env bash
# Obtains redismodule.h of the redis-server that is installed, from Debian's source package of the same version: no package ships it. It goes
# where the first argument says. The system's own lists and sources stay as they are. Exits with 3, and says why, where it cannot be had.
set -euo pipefail
to=${1:?usage: $0 FILE}
cannot() { echo "redismodule.h cannot be had: $*" >&2; exit 3; }
if [[ -n "${REDISMODULE_H:-}" ]]; then
  install -D -m 644 "$REDISMODULE_H" "$to"
  exit
fi
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || cannot "this is no Debian; name one in REDISMODULE_H"
read -r package version < <(dpkg-query -W -f '${source:Package} ${source:Version}\n' redis-server 2>/dev/null) || cannot "redis-server is not installed"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
mkdir -p "$dir/sources" "$dir/lists/partial" "$dir/source"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  [[ -f $file ]] || continue
  sed -e 's/^deb /deb-src /' -e 's/^Types:.*/Types: deb-src/' "$file" >"$dir/sources/$(basename "$file")"
done
apt=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$dir/sources" -o "Dir::State::Lists=$dir/lists" -o APT::Sandbox::User=root)
# Sources of others may have no source packages: what counts is whether this one is found.
apt-get "${apt[@]}" -qq update >"$dir/log" 2>&1 || true
(cd "$dir/source" && apt-get "${apt[@]}" -qq source --download-only "$package=$version" >>"$dir/log" 2>&1) ||
  cannot "no source package $package $version: $(tail -1 "$dir/log")"
tar -xf "$dir/source/${package}"_*.orig.tar.* -C "$dir/source"
install -D -m 644 "$dir"/source/*/src/redismodule.h "$to"
echo "redismodule.h of $package $version"
