#!/usr/bin/env bash
# Instructions per RPC, kernel included: UDP, TCP, the kernel's TLS, TLS in user space and Sealane in an emulated machine whose clock
# counts instructions. `benches/vm/run.sh [--json] [--sizes 64,1024] [--count 300] [--cpu max]`. A table by default; progress on
# standard error. Takes one to two minutes after the build.
#
# What it shows: how many instructions the whole machine executes for an RPC, the same to the digit in every run. What it does not: time.
# An instruction of AES counts as much as one that adds; caches, mispredictions and interrupts of devices do not exist; and each step of a
# `rep movsb` counts as one instruction, so with `--cpu max` copies of the C library and of the kernel cost one instruction per byte
# (`--cpu max,-erms,-fsrm` makes both copy by words or vectors).
#
# Needs Debian's or Ubuntu's apt-get, and root where a package is missing (qemu-system-x86). The kernel and busybox are unpacked below
# target/vm and never installed. There is nothing of the host in the machine but the benchmark and the libraries that it is linked with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null

json=no sizes=64,1024,8192,16384,65000 count=300 cpu=max
while (($#)); do
  case $1 in
  --json) json=yes ;;
  --sizes) sizes=$2 && shift ;;
  --count) count=$2 && shift ;;
  --cpu) cpu=$2 && shift ;;
  *) echo "usage: $0 [--json] [--sizes LIST] [--count N] [--cpu MODEL]" >&2 && exit 2 ;;
  esac
  shift
done

say() { echo "vm: $*" >&2; }
cannot() { echo "vm: CANNOT MEASURE KERNEL TLS HERE: $*" >&2 && exit 1; }

[[ $(uname -m) == x86_64 ]] || cannot "the machine is made for x86-64; this is $(uname -m)"
command -v apt-get >/dev/null || cannot "no apt-get to take qemu and a kernel from"
if ! command -v qemu-system-x86_64 >/dev/null; then
  ((EUID == 0)) || cannot "qemu-system-x86_64 is not installed, and installing it needs root"
  say "installing qemu-system-x86"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends qemu-system-x86; } >&2 ||
    cannot "qemu-system-x86 cannot be installed"
fi

dir=$PWD/target/vm
mkdir -p "$dir"
# Unpacks what a package has at some paths into $dir/$1; downloads it only once.
unpack() {
  local into=$dir/$1 package=$2
  shift 2
  [[ -e $into/done ]] && return
  rm -rf "$into" && mkdir -p "$into"
  say "downloading $package"
  (cd "$into" && apt-get download "$package" >&2) || cannot "$package cannot be downloaded"
  dpkg-deb --fsys-tarfile "$into"/*.deb | tar -x -C "$into" --wildcards "$@"
  rm "$into"/*.deb
  touch "$into/done"
}
kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1; }
if [[ ! -e $dir/kernel/done || ! -e $dir/busybox/done ]]; then
  if [[ -z $(kernel) ]]; then ((EUID != 0)) || apt-get update >&2; fi
  [[ -n $(kernel) ]] || cannot "no package linux-image-cloud-amd64: is the list of packages there (apt-get update)?"
  unpack kernel "$(kernel)" './boot/vmlinuz-*' '*/kernel/net/tls/*' '*/kernel/arch/x86/crypto/*' '*/kernel/crypto/*'
  unpack busybox busybox-static './bin/busybox'
fi

say "building"
cargo build --locked --release -p peers >&2
root=$dir/root
rm -rf "$root"
mkdir -p "$root"/{bin,modules,proc,sys,dev,tmp}
cp "$dir/busybox/bin/busybox" "$root/bin/"
strip -o "$root/bin/peers" target/release/peers
while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done < <(ldd target/release/peers | grep -o '/[^ ]*')
# What kernel TLS needs for AES-GCM, each after what it needs itself.
for module in cryptd crypto_simd gf128mul ghash-generic gcm ctr aesni-intel ghash-clmulni-intel tls; do
  found=$(find "$dir/kernel" -name "$module.ko*" | head -1)
  [[ -n $found ]] || continue
  case $found in
  *.ko) cp "$found" "$root/modules/" ;;
  *.xz) xz -dc "$found" >"$root/modules/$module.ko" ;;
  *) cannot "module $found is packed in a way not known here" ;;
  esac
  echo "$module" >>"$root/modules/order"
done
grep -qx tls "$root/modules/order" || cannot "the kernel package has no module tls"
image=$(ls "$dir"/kernel/boot/vmlinuz-* | tail -1)
machine="$(qemu-system-x86_64 --version | head -1 | sed 's/ (.*//'), -accel tcg -icount shift=0,sleep=off -cpu $cpu, one CPU, ${image##*/vmlinuz-}"
printf 'SIZES=%q\nCOUNT=%q\nMACHINE=%q\n' "$sizes" "$count" "$machine" >"$root/arguments"
cp benches/vm/init "$root/init" && chmod +x "$root/init"
(cd "$root" && find . | LC_ALL=C sort | "$dir/busybox/bin/busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$dir/initrd.gz"

say "measuring, about a minute; nothing comes from the machine meanwhile"
# No device gives it randomness or time of ours: with a seed and a clock of its own, every run is the same run.
timeout 900 qemu-system-x86_64 -accel tcg -icount shift=0,sleep=off -cpu "$cpu" -smp 1 -m 1024 -nodefaults -nographic -no-reboot \
  -serial stdio -seed 1 -rtc base=2026-01-01,clock=vm -kernel "$image" -initrd "$dir/initrd.gz" \
  -append "console=ttyS0 quiet norandmaps nokaslr tsc=reliable random.trust_cpu=on panic=-1" 2>&1 |
  tr -d '\r' >"$dir/console" || true
sed -n '/^RESULT$/,/^END$/p' "$dir/console" | grep '^{' >"$dir/result.json" ||
  cannot "the machine gave no result; its console is $dir/console"
show=(target/release/peers guest --show "$dir/result.json")
[[ $json == no ]] || show+=(--json)
"${show[@]}"
