"""Build the kernels for each CPU level.

`src/fastconv/_kernels/levels.py` says which kernels are compiled for which level, and with which
flags. This file makes one extension module for each of these pairs. Before it builds them it checks
that the compiler works, and whether it supports OpenMP.
"""

import os
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

# What is built is for this platform, which a cross-build names in _PYTHON_HOST_PLATFORM.
TARGET = sysconfig.get_platform()
PACKAGE = "fastconv._kernels"
SOURCES = Path("src/fastconv/_kernels")

LEVELS = SimpleNamespace(**runpy.run_path(str(SOURCES / "levels.py")))

# These modules run before a level is chosen, so they are built once, without flags of a level.
RUNTIME = ("cpu", "memory", "threads")

# With -O2, maxima of windows take 5 to 20 times as long as with -O3, and relu 7 times: their loops
# are not vectorised. With -O2 -ftree-vectorize -fvect-cost-model=dynamic, modules are 18 %
# smaller, but im2col and col2im take 1.2 times as long, and small convolutions 1.05 times.
COMPILE_FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wno-unused-function"]
if sys.platform == "win32":  # clang-cl takes options that Microsoft's compiler has not behind this.
    COMPILE_FLAGS = [f"/clang:{flag}" for flag in COMPILE_FLAGS]
if TARGET == "linux-aarch64":
    # GCC 12 orders instructions twice. Before it has chosen registers, it moves loads so far ahead
    # that of the 14 x 2 sums of a register tile (tile.c) five are kept in memory. Without that
    # order the tile's loop has 28 multiply-adds in 41 instructions, and no access to the stack.
    COMPILE_FLAGS.append("-fno-schedule-insns")
LINK_FLAGS = ["-Wl,-s"] if TARGET.startswith("linux") else []

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
    """`build_ext` that checks the compiler first, adds OpenMP, and compiles in parallel.

    On Windows it compiles with clang-cl, because the kernels use the vector extension of GCC and
    Clang, which Microsoft's compiler does not have.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self._cython = threading.Lock()

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            self._use_clang()
        self._require_compiler()
        compile_openmp, link_openmp = self._openmp_flags()
        settings = self._settings(compile_openmp)
        for ext in self.extensions:
            ext.depends.append(settings)
            ext.extra_compile_args += compile_openmp
            ext.extra_link_args += link_openmp
        super().build_extensions()

    def _use_clang(self) -> None:
        """Compile with LLVM's clang-cl and link with its lld-link, which take MSVC's options."""
        self.compiler.initialize()
        programs = [shutil.which(name) for name in ("clang-cl", "lld-link")]
        if None in programs:
            sys.exit(
                "fastconv: on Windows the kernels need LLVM: clang-cl and lld-link on the PATH"
            )
        self.compiler.cc, self.compiler.linker = programs

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
        text = f"{self._command()} {openmp} {cython_version} {np.__version__}\n"
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(path)

    def _command(self) -> list[str]:
        """Return the compiler and the options that all compilations have."""
        return list(getattr(self.compiler, "compiler_so", None) or [self.compiler.cc, "/nologo"])

    def _compiles(self, source: str, flags: list[str], link: list[str]) -> str:
        """Compile and link a tiny library; return the compiler's error message, or ""."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source)
            include = f"-I{sysconfig.get_path('include')}"
            command = [*self._command(), include, str(path), *flags]
            if self.compiler.compiler_type == "msvc":
                command += ["/LD", f"/Fo{folder}/", f"/Fe{folder}/probe.dll", "/link", *link]
            else:
                command += ["-shared", *link, "-o", str(Path(folder, "probe.so"))]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                return str(error)
            return "" if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"

    def _require_compiler(self) -> None:
        if problem := self._compiles("#include <Python.h>\n", [], []):
            sys.exit(
                "fastconv: no working C compiler with Python's headers was found; on Debian and "
                f"Ubuntu: apt-get install gcc python3-dev ({problem.strip().splitlines()[0]})"
            )

    def _openmp_flags(self) -> tuple[list[str], list[str]]:
        """Return the flags of the compiler and of the linker for OpenMP; none to do without it.

        FASTCONV_OPENMP=0 asks to do without it, and FASTCONV_REQUIRE_OPENMP=1 makes its lack an
        error.
        """
        if os.environ.get("FASTCONV_OPENMP") == "0":
            return [], []
        source = "#include <omp.h>\nint probe(void) { return omp_get_max_threads(); }\n"
        problems = []
        for flags, link in self._openmp_alternatives():
            problem = self._compiles(source, flags, link)
            if not problem:
                return flags, link
            problems.append(problem)
        if os.environ.get("FASTCONV_REQUIRE_OPENMP") == "1":
            sys.exit(f"fastconv: the compiler does not support OpenMP:\n{problems[0]}")
        print("fastconv: no OpenMP in this compiler, building single-threaded", file=sys.stderr)
        return [], []

    def _openmp_alternatives(self) -> list[tuple[list[str], list[str]]]:
        if self.compiler.compiler_type == "msvc":
            libraries = Path(self.compiler.cc).parent.parent / "lib"
            return [(["-fopenmp"], [f"/LIBPATH:{libraries}", "libomp.lib"])]
        usual = (["-fopenmp"], ["-fopenmp"])
        if TARGET.startswith("macosx"):
            # Apple's Clang has the pragmas, but neither the header nor the runtime: CPPFLAGS and
            # LDFLAGS say where they are.
            return [usual, (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]
        return [usual]


if __name__ == "__main__":
    setup(
        ext_modules=[
            *map(extension, RUNTIME),
            *(extension(*built) for built in LEVELS.modules(TARGET)),
        ],
        cmdclass={"build_ext": Build},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
    )
