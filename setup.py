"""Build the kernels for each CPU level.

`src/fastconv/_kernels/levels.py` says which kernels are compiled for which level, and with which
flags. This file makes one extension module for each of these pairs. Before it builds them it checks
that the compiler works, and whether it supports OpenMP.
"""

import os
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from Cython import __version__ as cython_version
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

PACKAGE = "fastconv._kernels"
SOURCES = Path("src/fastconv/_kernels")

LEVELS = SimpleNamespace(**runpy.run_path(str(SOURCES / "levels.py")))

# These modules run before a level is chosen, so they are built once, without flags of a level.
RUNTIME = ("cpu", "memory", "threads")

# With -O2, maxima of windows take 5 to 20 times as long as with -O3, and relu 7 times: their loops
# are not vectorised. With -O2 -ftree-vectorize -fvect-cost-model=dynamic, modules are 18 %
# smaller, but im2col and col2im take 1.2 times as long, and small convolutions 1.05 times.
COMPILE_FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wno-unused-function"]
LINK_FLAGS = ["-Wl,-s"] if sys.platform == "linux" else []

# The limited API makes one binary for Python 3.11 and later; free-threaded builds do not have it.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
MACROS = [
    ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
    ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
]
if LIMITED_API:
    MACROS.append(("Py_LIMITED_API", "0x030B0000"))


DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}
GENERATED = Path("build/cython")


C_FILES = ["setup.py", str(SOURCES / "levels.py"), *map(str, SOURCES.glob("*.[ch]"))]


def extension(source: str, level: str | None = None) -> Extension:
    """Describe one extension module: of a level, or one that runs before a level is chosen."""
    flags = LEVELS.compiler_flags(level) if level else []
    macros = list(MACROS)
    if level:
        # All levels compile the same C file, whose module has no level in its name.
        macros.append((f"PyInit_{source}", f"PyInit_{source}_{level}"))
        microkernels = f"{PACKAGE}.{LEVELS.module('microkernels', level)}"
        macros.append(("FASTCONV_LEVEL", f'"{level}"'))
        macros.append(("FASTCONV_MICROKERNELS", f'"{microkernels}"'))
    return Extension(
        f"{PACKAGE}.{source}_{level}" if level else f"{PACKAGE}.{source}",
        [str(SOURCES / f"{source}.pyx")],
        include_dirs=[np.get_include(), str(SOURCES)],
        define_macros=macros,
        extra_compile_args=[*COMPILE_FLAGS, *flags],
        extra_link_args=[*LINK_FLAGS],
        depends=[*C_FILES, *map(str, SOURCES.glob("*.pxd"))],
        py_limited_api=LIMITED_API,
    )


def generate(ext: Extension) -> list[str]:
    """Turn a module's source into C, once for all levels; return a copy that is the module's own.

    Object files are named after C files, so modules that are compiled in parallel need one each.
    """
    [source] = ext.sources
    name = Path(source).stem
    generated = (GENERATED / name / source).with_suffix(".c")
    # `cythonize` would always rebuild: every isolated build has a new copy of NumPy's declarations.
    declarations = [path for path in ext.depends if path.endswith((".pxd", ".py", ".txt"))]
    if newer_group([source, *declarations], str(generated)):
        cythonize(
            [Extension(f"{PACKAGE}.{name}", [source], define_macros=ext.define_macros)],
            build_dir=str(GENERATED / name),
            include_path=["src"],
            compiler_directives=DIRECTIVES,
            force=True,
            quiet=True,
        )
    result = GENERATED / f"{ext.name.rpartition('.')[2]}.c"
    if newer_group([str(generated)], str(result)):
        shutil.copyfile(generated, result)
    return [str(result)]


class Build(build_ext):
    """`build_ext` that checks the compiler first, adds OpenMP, and compiles in parallel."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self._cython = threading.Lock()

    def build_extensions(self) -> None:
        self._require_compiler()
        openmp = self._openmp_flags()
        settings = self._settings(openmp)
        for ext in self.extensions:
            ext.depends.append(settings)
            ext.extra_compile_args += openmp
            ext.extra_link_args += openmp
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        # Cython is not safe in several threads, and computes in Python anyway. While one thread
        # generates the C file of a module, the others wait for the compilers of theirs.
        with self._cython:
            ext.sources = generate(ext)
        super().build_extension(ext)

    def _settings(self, openmp: list[str]) -> str:
        """Return a file that changes with the compiler, OpenMP, Cython or NumPy.

        All modules depend on it, so that a change of one of these rebuilds everything.
        """
        path = GENERATED / "settings.txt"
        text = f"{self.compiler.compiler_so} {openmp} {cython_version} {np.__version__}\n"
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(path)

    def _compiles(self, source: str, flags: list[str]) -> str:
        """Compile and link a tiny library; return the compiler's error message, or ""."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source)
            include = f"-I{sysconfig.get_path('include')}"
            command = [*self.compiler.compiler_so, include, str(path), "-shared", *flags]
            try:
                done = subprocess.run(
                    [*command, "-o", str(Path(folder, "probe.so"))],
                    capture_output=True,
                    text=True,
                    check=False,
                )
            except OSError as error:
                return str(error)
            return "" if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"

    def _require_compiler(self) -> None:
        if problem := self._compiles("#include <Python.h>\n", []):
            sys.exit(
                "fastconv: no working C compiler with Python's headers was found; on Debian and "
                f"Ubuntu: apt-get install gcc python3-dev ({problem.strip().splitlines()[0]})"
            )

    def _openmp_flags(self) -> list[str]:
        problem = self._compiles(
            "#include <omp.h>\nint probe(void) { return omp_get_max_threads(); }\n", ["-fopenmp"]
        )
        if not problem:
            return ["-fopenmp"]
        if os.environ.get("FASTCONV_REQUIRE_OPENMP") == "1":
            sys.exit(f"fastconv: the compiler does not support OpenMP:\n{problem}")
        print("fastconv: no OpenMP in this compiler, building single-threaded", file=sys.stderr)
        return []


if __name__ == "__main__":
    setup(
        ext_modules=[
            *map(extension, RUNTIME),
            *(extension(*built) for built in LEVELS.modules(platform.machine())),
        ],
        cmdclass={"build_ext": Build},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
    )
