#!/usr/bin/env bash
# Everything that a fresh Debian 12 with Node 20, npm and git lacks: packages of the distribution, Node 24 and the
# project's libraries. Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "run as root: hosts are made of network namespaces" >&2; exit 1; }

packages=(docker.io golang-go golang-github-hashicorp-memberlist-dev iptables nftables libnftables1 iproute2 busybox-static etcd-server tcpdump procps serf conntrack curl ca-certificates openssl libfaketime docker-compose)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  # Installed, not started: the hosts of the lab run their own.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Small where there is a C compiler; without it one kind of client is skipped in a test, which says so.
if command -v gcc >/dev/null && ! command -v musl-gcc >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends musl-tools >/dev/null || echo "musl-tools could not be installed" >&2
fi

# Without it the tests on another kernel are skipped, and say so.
if ! command -v qemu-system-x86_64 >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86 >/dev/null || echo "qemu-system-x86 could not be installed" >&2
fi

if [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-audit --no-fund --loglevel=error
fi

# tap runs the project's TypeScript as Node does: its own compiler is switched off in .taprc, which takes effect when it is built.
if [ ! -e node_modules/.weft-tap-built ] || [ .taprc -nt node_modules/.weft-tap-built ]; then
  npx --no-install tap build >/dev/null 2>&1 || true
  npx --no-install tap plugin rm @tapjs/typescript >/dev/null 2>&1 || true
  git checkout -q -- .taprc 2>/dev/null || true
  touch node_modules/.weft-tap-built
fi
