"""What the compiler made of the sources: symbols, instructions and registers of the library in use.

The vectorised kernels are plain C with vector types: whether they come out as meant is for the
compiler to decide, so it is looked at.
"""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastconv import _core

LIBRARY = Path(_core.__file__)
X86 = platform.machine() in ("x86_64", "AMD64")


def run_tool(*command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} of the binutils is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def symbols():
    """(kind, name) of all dynamic symbols, U for those that other libraries provide."""
    lines = [line.split()[-2:] for line in run_tool("nm", "-D", LIBRARY).splitlines()]
    if any("__asan" in name or "__tsan" in name for _, name in lines):
        pytest.skip("this library is built with a sanitizer")
    return [(kind, name.split("@")[0]) for kind, name in lines]


@pytest.fixture(scope="module")
def functions(symbols):
    """The instructions of each function."""
    if not X86:
        pytest.skip("knows x86-64 only")
    found, name = {}, None
    listing = run_tool("objdump", "-d", "--no-show-raw-insn", LIBRARY)
    for line in listing.splitlines():
        if start := re.match(r"[0-9a-f]+ <(.+)>:", line):
            name = start[1]
            found[name] = []
        elif name and (instruction := re.match(r"\s+[0-9a-f]+:\t(.*)", line)):
            found[name].append(instruction[1])
    if "fc_gemm_tile_f32_sse2" not in found:
        pytest.skip("this library is stripped of its local symbols")
    return found


# ---- symbols ------------------------------------------------------------------------------------


def test_exports(symbols):
    """The module's initialiser, and what threadpoolctl asks a library for."""
    exported = {name for kind, name in symbols if kind in "TDBRGWV"}
    assert exported == {
        "PyInit__core",
        "fastconv_get_num_threads",
        "fastconv_set_num_threads",
        "fastconv_get_version",
    }


def test_the_file_serves_all_python_versions():
    assert LIBRARY.name == "_core.abi3.so"


def test_needs_no_other_library():
    """Neither OpenMP nor a BLAS nor a C++ runtime."""
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", run_tool("readelf", "-d", LIBRARY))
    allowed = r"(libc|libm|libpthread|ld-linux\S*)\.so\.\d+|lib(a|t|ub)san\.so\.\d+"
    assert needed and [name for name in needed if not re.fullmatch(allowed, name)] == []


def test_uses_no_allocation_or_output_it_should_not(symbols):
    """No abort, no printing: errors are statuses."""
    imported = {name for kind, name in symbols if kind == "U"}
    assert not imported & {"abort", "exit", "printf", "puts", "perror", "__assert_fail"}


def test_size(symbols):
    assert LIBRARY.stat().st_size < 3e6


# ---- instructions -------------------------------------------------------------------------------


def _with_avx(instructions):
    """VEX-coded instructions start with v, whatever registers they use."""
    return [i for i in instructions if i.startswith("v") or re.search("%[yz]mm", i)]


def test_avx_stays_in_its_kernels(functions):
    """Everything that runs before dispatch, and the kernels for old processors, is SSE2."""
    old = {name: _with_avx(code) for name, code in functions.items() if "avx" not in name}
    assert {name: code[0] for name, code in old.items() if code} == {}
    avx2 = {name: code for name, code in functions.items() if name.endswith("_avx2")}
    assert avx2 and not any("%zmm" in i for code in avx2.values() for i in code)


def test_scalar_kernels_are_scalar(functions):
    """Plain C must be what it says; copies of memory may use vectors."""
    arithmetic = re.compile(r"(add|sub|mul|div|min|max|cmp\w*)p[sd]\b")
    kernels = {name: code for name, code in functions.items() if name.endswith("_scalar")}
    found = {name for name, code in kernels.items() for i in code if arithmetic.match(i)}
    assert kernels and not found


TILES = {"sse2": (4, "mulp"), "avx2": (6, "vfmadd"), "avx512": (14, "vfmadd")}
FULL = {"sse2": "%xmm", "avx2": "%ymm", "avx512": "%zmm"}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("isa", TILES)
def test_full_tile_lives_in_registers(functions, isa, dtype):
    """One multiplication for each accumulator in a loop, and no vector on the stack.

    GCC may copy the loop for steps of one element.
    """
    rows, multiply = TILES[isa]
    code = functions[f"fc_tile_{rows}x2_{dtype}_{isa}"]
    products = [i for i in code if i.startswith(multiply)]
    assert len(products) in (rows * 2, rows * 4)
    assert all(FULL[isa] in i for i in products)
    moves = [i for i in code if i.split()[0].lstrip("v").startswith(("movu", "mova"))]
    assert [i for i in moves if FULL[isa] in i and "(%rsp)" in i] == []


@pytest.mark.parametrize("isa", TILES)
def test_every_tile_size_has_its_own_loop(functions, isa):
    rows = TILES[isa][0]
    for dtype in ("f32", "f64"):
        for m in range(1, rows + 1):
            for vectors in (1, 2):
                code = functions[f"fc_tile_{m}x{vectors}_{dtype}_{isa}"]
                assert sum(i.startswith(TILES[isa][1]) for i in code) >= m * vectors


def test_fma_loop_measures_fma(functions):
    """The peak that all shares are measured against: ten chains of FMA, nothing on the stack."""
    for isa in ("avx2", "avx512"):
        for dtype in ("f32", "f64"):
            code = functions[f"fc_fma_loop_{dtype}_{isa}"]
            assert sum(i.startswith("vfmadd") and FULL[isa] in i for i in code) == 10
