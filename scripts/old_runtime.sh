#!/usr/bin/env bash
# Make what wheels for old Linux systems are linked with: scripts/old_runtime.sh MACHINE FOLDER
#
# FOLDER/stubs gets the symbols of glibc 2.17, for the linker (LDFLAGS=-LFOLDER/stubs), and
# FOLDER/libgomp.so.1 an OpenMP runtime that was linked with them. MACHINE is x86_64 or aarch64.
#
# A program asks for the newest version of each symbol of the C library that it was linked with, and
# runs with no older library. What Debian 12 links asks for glibc 2.34 because of pthread_create and
# dlopen alone, which moved to another file then. `zig cc` has lists of the symbols of every glibc, and
# makes the stubs; GCC compiles and links as always. GCC's own libgomp is compiled from Debian's source
# package, because Debian's binary asks for glibc 2.34, too.
#
# Needs Debian (apt-get source), gcc (or gcc-aarch64-linux-gnu), make, and ziglang for ${PYTHON:-python3}.
set -euo pipefail

machine=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
glibc=2.17
compiler=gcc
if [[ $machine != $(uname -m) ]]; then compiler=$machine-linux-gnu-gcc; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

echo 'int nothing;' >nothing.c
ZIG_GLOBAL_CACHE_DIR=$work/zig "${PYTHON:-python3}" -m ziglang cc \
    -target "$machine-linux-gnu.$glibc" -shared nothing.c -o nothing.so
stub=$(find "$work/zig" -name libc.so.6)
mkdir -p "$folder/stubs"
cp "$(dirname "$stub")"/lib*.so.* "$folder/stubs/"
for library in dl m pthread rt; do
    ln -sf "$(basename "$folder/stubs/lib$library".so.*)" "$folder/stubs/lib$library.so"
done
# The linker reads this script for -lc. Functions for threads were in a library of their own.
cat >"$folder/stubs/libc.so" <<END
GROUP ($folder/stubs/libc.so.6 libc_nonshared.a AS_NEEDED ($folder/stubs/libpthread.so.0))
END

mkdir -p lists/partial
# The sources of what this machine takes its packages from.
# shellcheck disable=SC2016
apt-get indextargets --format 'deb-src $(SITE) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' | sort -u >sources
options=(-o "Dir::Etc::sourcelist=$work/sources" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
apt-get "${options[@]}" source --download-only "gcc-$($compiler -dumpversion | cut -d. -f1)"
tar -xzf gcc-*.orig.tar.gz
mkdir gcc build
tar -xJf gcc-*/gcc-*.tar.xz -C gcc --strip-components 1 --exclude '*/testsuite/*.*/*' \
    --wildcards '*/libgomp/*' '*/libgcc/*' '*/include/*' '*/config/*' '*/config*' '*/*.m4' \
    '*/install-sh' '*/ltmain.sh' '*/missing' '*/depcomp' '*/compile' '*/gcc/BASE-VER'
cd build
# Its makefile ignores LDFLAGS.
../gcc/libgomp/configure --host="$machine-linux-gnu" CC="$compiler -L$folder/stubs" FC=no \
    CFLAGS="-O2 -g0" --disable-multilib --disable-werror --enable-shared --disable-static
make -j "$(nproc)"
"${compiler/%gcc/strip}" -o "$folder/libgomp.so.1" .libs/libgomp.so.1
ln -sf ../libgomp.so.1 "$folder/stubs/libgomp.so"
