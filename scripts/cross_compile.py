"""Compile every C file for Windows, macOS and Arm, none of which needs to be here.

`zig cc` (the package ziglang) is Clang with the C headers of many systems. Each module is compiled,
not linked or run, with the headers of the target's Python and NumPy. NumPy's come from its wheel
for the target. Python's own are right for every 64-bit system but Windows, whose headers come from
Debian's source package of Python.

    pip install ziglang setuptools cython numpy
    python scripts/cross_compile.py                       the three usual targets
    python scripts/cross_compile.py x86_64-windows-gnu    one of them
"""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
os.chdir(ROOT)  # setup.py has paths that are relative to it.
SETUP = SimpleNamespace(**runpy.run_path(str(ROOT / "setup.py")))


class Target(NamedTuple):
    """A system: as `sysconfig.get_platform` names it, and as the names of NumPy's wheels do."""

    platform: str
    wheel: str


TARGETS = {
    "x86_64-windows-gnu": Target("win-amd64", "win_amd64"),
    "aarch64-windows-gnu": Target("win-arm64", "win_arm64"),
    "aarch64-macos": Target("macosx-14.0-arm64", "macosx_14_0_arm64"),
    "x86_64-macos": Target("macosx-14.0-x86_64", "macosx_14_0_x86_64"),
    "aarch64-linux-gnu": Target("linux-aarch64", "manylinux_2_28_aarch64"),
}
USUAL = ("x86_64-windows-gnu", "aarch64-macos", "aarch64-linux-gnu")

# The source packages of Python in Debian 12 and 13.
SOURCES = ("python3.11", "python3.13")
WARNINGS = ["-Wall", "-Werror", "-Wno-unused-function", "-Wno-unknown-pragmas"]
# The C code that Cython writes has these.
WARNINGS += ["-Wno-incompatible-pointer-types-discards-qualifiers"]


def run(command: list[str], folder: Path) -> str:
    """Return what a command prints that runs in a folder; exit with it if the command fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def numpy_headers(target: Target, folder: Path) -> Path:
    """Return the headers in NumPy's wheel for a target."""
    version = ".".join(map(str, sys.version_info[:2]))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", version, "--platform", target.wheel]
    run([*command, "--dest", str(folder), f"numpy=={np.__version__}"], folder)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [n for n in archive.namelist() if "/include/" in n])
    return folder / "numpy/_core/include"


def windows_headers(folder: Path) -> list[Path]:
    """Return the folders of Python's headers for Windows, from Debian's source of Python."""
    (folder / "lists/partial").mkdir(parents=True)
    # The sources of what this machine takes its packages from.
    index = ["apt-get", "indextargets", "Created-By: Packages", "Origin: Debian", "--format"]
    sources = run([*index, "deb-src $(SITE) $(RELEASE) $(COMPONENT)"], folder)
    (folder / "list").write_text("\n".join({*sources.splitlines()}) + "\n")
    options = ["-o", f"Dir::Etc::sourcelist={folder}/list", "-o", "Dir::Etc::sourceparts=-"]
    options += ["-o", f"Dir::State::lists={folder}/lists"]
    run(["apt-get", *options, "update"], folder)
    for package in SOURCES:
        command = ["apt-get", *options, "source", "--download-only", package]
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
            break
    [archive] = folder.glob("*.orig.tar.*")
    with tarfile.open(archive) as files:
        wanted = [m for m in files if "/Include/" in m.name or "/PC/pyconfig.h" in m.name]
        files.extractall(folder, wanted, filter="data")
    [include] = folder.glob("Python-*/Include")
    config = include.parent / "PC"
    if (config / "pyconfig.h.in").exists():  # Since Python 3.13 the build chooses about the GIL.
        (config / "pyconfig.h.in").rename(config / "pyconfig.h")
    return [config, include]


def modules(target: Target) -> list[Any]:
    """Return the extension modules of a target; their C files are made if they are missing."""
    extensions = [
        *map(SETUP.extension, SETUP.RUNTIME),
        *(SETUP.extension(*built) for built in SETUP.LEVELS.modules(target.platform)),
    ]
    for extension in extensions:
        extension.sources = SETUP.generate(extension)
    return extensions


def compile_for(name: str) -> None:
    """Compile all modules for a target, or exit with the compiler's messages."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        headers = [numpy_headers(target, folder), ROOT / SETUP.SOURCES]
        if "windows" in name:
            (folder / "python").mkdir()
            headers += windows_headers(folder / "python")
        else:
            headers.append(Path(sysconfig.get_path("include")))
        include = [f"-I{path}" for path in headers]

        def compile_module(extension: Any) -> str:
            macros = [f"-D{macro}={value}" for macro, value in extension.define_macros]
            flags = [flag for flag in extension.extra_compile_args if flag != "-O3"]
            command = [sys.executable, "-m", "ziglang", "cc", "-target", name, "-c", "-O0"]
            command += [*include, *macros, *flags, *WARNINGS, extension.sources[0], "-o"]
            command.append(str(folder / f"{extension.name}.o"))
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            return f"{extension.name}: {done.stderr}" if done.returncode else ""

        compiled = modules(target)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            problems = [message for message in pool.map(compile_module, compiled) if message]
    print(f"{name}: {len(compiled) - len(problems)} of {len(compiled)} modules compile")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "targets", nargs="*", choices=[*TARGETS, []], help="default: the usual ones"
    )
    for chosen in parser.parse_args().targets or USUAL:
        compile_for(chosen)
