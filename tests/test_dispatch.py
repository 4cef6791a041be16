"""Which instruction set is chosen, by whom, and what the tables of kernels hold."""

import platform
import re
import shutil
import sys
from pathlib import Path

import pytest
from cases import assert_sums_close, uniform
from interpreter import output, run_python

import fastconv
from fastconv import _core, reference

X86 = platform.machine() in ("x86_64", "AMD64")
ORDER = ("scalar", "sse2", "avx2", "avx512") if X86 else ("scalar", "neon")
CSRC = Path(__file__).resolve().parent.parent / "csrc"

# What the environment asks for must not hide what this machine has.
ALL = output("import fastconv; print(*fastconv.available_isas())", FASTCONV_ISA=None).split()


# ---- import -------------------------------------------------------------------------------------


def test_sources_without_the_core_say_what_to_do(tmp_path):
    package = Path(fastconv.__file__).parent
    shutil.copytree(package, tmp_path / "fastconv", ignore=shutil.ignore_patterns("_core*"))
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
# the finder of an editable installation would find the core elsewhere
sys.meta_path[:] = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")]
import fastconv
"""
    done = run_python(program)
    assert done.returncode != 0
    assert "ImportError: fastconv: " in done.stderr
    assert "without the compiled core" in done.stderr
    assert "pip install -e ." in done.stderr


# ---- choice -------------------------------------------------------------------------------------


def test_available_isas_are_known_ones_narrowest_first():
    assert fastconv.available_isas() == tuple(isa for isa in ORDER if isa in ALL)
    assert ORDER[0] in ALL
    if X86:
        assert "sse2" in ALL
    elif platform.machine() == "aarch64":
        assert "neon" in ALL


def test_the_widest_is_the_default():
    assert output("import fastconv; print(fastconv.isa())", FASTCONV_ISA=None) == ALL[-1]
    assert output("import fastconv; print(fastconv.isa())", FASTCONV_ISA="") == ALL[-1]


CONVOLUTION = """
import numpy as np, fastconv
rng = np.random.default_rng(3)
for dtype in (np.float32, np.float64):
    x = rng.integers(-3, 4, (2, 19, 9, 21)).astype(dtype)
    w = rng.integers(-3, 4, (15, 19, 3, 3)).astype(dtype)
    y = fastconv.conv2d(x, w, padding=1)
    assert np.array_equal(y, fastconv.reference.conv2d(x, w, padding=1))
    assert np.array_equal(fastconv.max_pool2d(x, 2), fastconv.reference.max_pool2d(x, 2))
print(fastconv.isa(), fastconv.show_config(as_dict=True)["isa"])
"""


@pytest.mark.parametrize("isa", ALL)
def test_the_environment_chooses(isa):
    code = "import fastconv.reference\n" + CONVOLUTION
    assert output(code, FASTCONV_ISA=isa) == f"{isa} {isa}"


@pytest.mark.parametrize("isa", ["AVX2", "avx", "neon" if X86 else "sse2", "sse2 ", "1", "ä"])
def test_a_wrong_name_is_an_import_error_that_lists_the_right_ones(isa):
    done = run_python("import fastconv", FASTCONV_ISA=isa)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: FASTCONV_ISA={isa!r} is not available here")
    assert last.endswith("valid values: " + ", ".join(ALL))


def test_set_isa():
    before = fastconv.isa()
    for isa in fastconv.available_isas():
        _core.set_isa(isa)
        assert fastconv.isa() == isa
    with pytest.raises(ValueError, match="'mmx' is not one of"):
        _core.set_isa("mmx")
    assert fastconv.isa() == fastconv.available_isas()[-1]
    _core.set_isa(before)


# ---- processor ----------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc/cpuinfo")
def test_cpu_features_are_those_the_kernel_reports():
    features = fastconv.cpu_features()
    assert all(isinstance(value, bool) for value in features.values())
    text = Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^(flags|Features)\s*:(.*)$", text, re.MULTILINE)[2].split()
    names = {"neon": "asimd"}
    for name, value in features.items():
        assert value == (names.get(name, name) in flags), name


def test_an_isa_is_available_exactly_with_its_features():
    features = fastconv.cpu_features()
    needs = {
        "scalar": (),
        "sse2": ("sse2",),
        "avx2": ("avx2", "fma"),
        "avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl", "fma"),
        "neon": ("neon",),
    }
    for isa in ORDER:
        assert (isa in ALL) == all(features[name] for name in needs[isa])


def test_caches_are_plausible():
    caches = fastconv.show_config(as_dict=True)["caches"]
    assert 8 << 10 <= caches["l1d"] <= caches["l2"]
    assert caches["l2"] <= 1 << 30 and caches["l3"] <= 4 << 30


def test_show_config_prints_what_it_returns(capsys):
    assert fastconv.show_config() is None
    printed = capsys.readouterr().out
    for name, value in fastconv.show_config(as_dict=True).items():
        assert f"{name}: {value}" in printed


# ---- kernels ------------------------------------------------------------------------------------


@pytest.mark.skipif(not CSRC.exists(), reason="needs the sources")
def test_every_kernel_of_the_list_has_a_c_check():
    """The C checks do not link without one; this says so before they are built."""
    kernels = re.findall(r"^FC_KERNEL\([^,]+,\s*(\w+),", (CSRC / "kernels.inc").read_text(), re.M)
    assert len(kernels) >= 13 and len(set(kernels)) == len(kernels)
    checks = "".join(p.read_text() for p in (CSRC.parent / "tests" / "c").glob("*.c"))
    for kernel in kernels:
        assert f"void check_{kernel}(const fc_kernels *t)" in checks, kernel


def test_every_isa_computes(isa, dtype, rng):
    x, w = uniform((1, 97, 9, 9), dtype, rng), uniform((13, 97, 3, 3), dtype, rng)
    assert_sums_close(fastconv.conv2d(x, w), reference.conv2d(x, w), 97 * 9, x, w)
    assert fastconv.isa() == isa
    assert _core.measure_peak(dtype, 1, 0.001) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_one_library_is_loaded():
    """No OpenMP, no BLAS and no second copy of the kernels come with the package."""
    code = """
import fastconv._core
names = {line.split()[-1].rsplit("/", 1)[-1] for line in open("/proc/self/maps") if "/" in line}
print(*sorted(n for n in names if n.startswith("_core") or "omp" in n))
"""
    before = output('import numpy; print(*[l for l in open("/proc/self/maps") if "omp" in l])')
    assert before == ""
    names = output(code).split()
    assert len(names) == 1 and names[0].startswith("_core"), names
