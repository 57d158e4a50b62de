#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# Installs what Kvasir needs on Debian 12 (with its security updates, x86-64). Does nothing when nothing is missing.
# Without root and without sudo it prints the one command to run and stops with exit code 2.
set -eu

# package, then what it is for
needs='
make                    runs the two commands of the README
cmake                   configures the build
ninja-build             builds
g++                     compiles the C++ sources
ccache                  makes rebuilds cheap
libmlir-22-dev          MLIR: the compiler is a set of MLIR dialects and passes
mlir-22-tools           mlir-tblgen and the reference drivers of MLIR
llvm-22-dev             LLVM: code generation
llvm-22-tools           lit, FileCheck, not, split-file
liblld-22-dev           LLD as a library: kernels are linked into shared objects in process
lld-22                  links the drivers
libtbb-dev              oneTBB: the one thread pool of a process
libprotobuf-dev         the container of compiled methods
protobuf-compiler       generates its reader and writer
libopenblas-serial-dev  dense products and factorizations, without threads of its own
libcli11-dev            command lines
nlohmann-json3-dev      JSON in and out
libfmt-dev              text formatting
libxxhash-dev           checksums and cache keys
libzstd-dev             compression of sections of compiled methods
zlib1g-dev              named by the CMake package of LLVM
graphviz                draws the graphs of kvasir explain
libjs-chart.js          plots of the HTML report
libgtest-dev            unit tests of the runtime
python3                 oracles, lints and lit
python3-numpy           oracles
python3-jsonschema      checks of the JSON output
'

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=$(echo "$needs" | while read -r package reason; do
  if [ -n "$package" ] && ! installed "$package"; then echo "$package"; fi
done)
if [ -z "$missing" ]; then
  echo "setup: nothing to install"
  exit 0
fi

echo "setup: to be installed from Debian's packages:"
for package in $missing; do
  echo "$needs" | sed -n "s/^$package  *\(.*\)/$package \1/p" | while read -r name reason; do
    printf '  %-23s %s\n' "$name" "$reason"
  done
done

if [ "${1-}" = --list ]; then
  exit 0
fi
packages=$(echo $missing)
command="apt-get update && apt-get install -y --no-install-recommends $packages"
if [ "$(id -u)" -eq 0 ]; then
  as_root=
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
  as_root=sudo
else
  echo "setup: root is needed. Run this one command, then try again:" >&2
  echo "  su -c '$command'" >&2
  exit 2
fi

export LC_ALL=C
$as_root apt-get update -qq
for package in $missing; do
  if [ -z "$(apt-cache policy "$package" | sed -n 's/^  Candidate: *//p' | grep -v '(none)')" ]; then
    echo "setup: no package $package: expected Debian 12 with its security updates" >&2
    echo "  (suite bookworm-security, component main) in /etc/apt/sources.list" >&2
    exit 2
  fi
done
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
echo "setup: done"
