"""Build of the one extension module: C sources with per-ISA flags, and Cython over them.

Everything else about the project stands in pyproject.toml.
"""

import os
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CSRC = Path("csrc")
# gnu11, not c11: ISO mode turns the contraction of a*b + c into FMA off.
COMMON = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-fvisibility=hidden", "-fPIC"]
COMMON += ["-Wall", "-Wextra", "-fno-lto", "-g0"]
X86 = {
    "sse2": ["-msse2"],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
}
# Plain C is to be what it says: the compiler must not vectorise it.
ISA_FLAGS = {"scalar": ["-fno-tree-vectorize", "-fno-tree-slp-vectorize"]}
if platform.machine() in ("x86_64", "AMD64"):
    ISA_FLAGS |= X86
elif platform.machine() in ("aarch64", "arm64"):
    ISA_FLAGS |= {"neon": []}
if len(ISA_FLAGS) > 1:
    ISA_FLAGS["scalar"] += ["-Os"]  # for tests alone, then, and a tenth of the module

# FASTCONV_CFLAGS adds flags, for example "-fsanitize=address,undefined -g".
EXTRA = os.environ.get("FASTCONV_CFLAGS", "").split()
LINK = ["-pthread", *EXTRA]
if "-g" not in EXTRA and platform.system() == "Linux":
    # A tenth of the module is for debuggers and profilers: names, and how to unwind the stack.
    COMMON += ["-fno-asynchronous-unwind-tables"]
    LINK += ["-Wl,--strip-all"]


class BuildExt(build_ext):
    """Compiles each C file to an object of its own flags before the module is linked."""

    def build_extension(self, ext):
        headers = [str(p) for p in (*CSRC.rglob("*.h"), *CSRC.rglob("*.inc"))]
        drivers = [p for p in sorted(CSRC.glob("*.c")) if not p.name.startswith("isa_")]
        units = [(path, ["-O2"]) for path in drivers]  # the loops that take the time are kernels
        units += [(CSRC / f"isa_{isa}.c", flags) for isa, flags in ISA_FLAGS.items()]
        for path, flags in units:
            ext.extra_objects += self.compiler.compile(
                [str(path)],
                output_dir=self.build_temp,
                extra_postargs=COMMON + flags + EXTRA,
                depends=headers,
            )
        ext.depends = [*ext.depends, *ext.extra_objects]  # a new object means a new link
        super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "fastconv._core",
            ["fastconv/_core.pyx"],
            include_dirs=[str(CSRC)],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=["-O2", "-g0", "-fvisibility=hidden", *EXTRA],
            extra_link_args=LINK,
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
