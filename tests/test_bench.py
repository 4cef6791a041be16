"""The benchmark engine: fair timing, verification that catches wrong results, readable tables."""

import argparse
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv.bench import check_auto, compare, loops, scaling, verify
from fastconv.bench.candidates import prepare
from fastconv.bench.cases import (
    LECTURE_CASES,
    OPERATIONS,
    POOL_CASES,
    ConvCase,
    PoolCase,
    conv_cases,
    select,
)
from fastconv.bench.command import FULL, QUICK, measure_case, run
from fastconv.bench.environment import environment, others_share
from fastconv.bench.report import (
    Measured,
    PlainReport,
    Result,
    geometric_mean,
    layout,
    means,
    milliseconds,
    percent,
    row,
    significant,
)
from fastconv.bench.timing import Timing, settle

ROOT = Path(__file__).resolve().parent.parent
FORWARD, INPUT_GRAD, WEIGHT_GRAD, MAX_POOL = OPERATIONS[:4]

# strides, groups, padding and sizes that do not fit
ODD_CASES = [
    ConvCase("test", "plain", 3, 7, 6, 4, 3, 2, stride=1, padding=1, groups=1),
    ConvCase("test", "strided", 4, 9, 8, 6, 3, 3, stride=2, padding=0, groups=2, N=2),
    ConvCase("test", "depthwise", 5, 6, 6, 5, 3, 3, stride=3, padding=2, groups=5),
    ConvCase("test", "1x1", 3, 5, 4, 2, 1, 1, stride=2, padding=0, groups=1),
    ConvCase("test", "3x3", 4, 9, 7, 6, 3, 3, stride=1, padding=1, groups=2),
]
ODD_POOLS = [
    PoolCase("test", "plain", 3, 8, 6, 2, 2),
    PoolCase("test", "overlapping", 2, 9, 7, 3, 2, padding=1, N=2),
    PoolCase("test", "rest", 2, 8, 8, 3, 3),
]
by_name = {"ids": lambda case: case.name}


# ---- timing -------------------------------------------------------------------------------------


class Clock:
    """A clock that only moves when a candidate works."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def __call__(self):
        return self.now

    def work(self, name, *seconds):
        """A candidate that takes the given times in turn, the last one for ever after."""
        left = list(seconds)

        def call():
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call

    def compare(self, candidates, **options):
        return compare(candidates, settle=lambda: None, clock=self, **options)


def test_medians_and_rounds():
    clock = Clock()
    timings = clock.compare(
        {"a": clock.work("a", 0.1), "b": clock.work("b", 0.05)},
        min_time=0.5,
        min_rounds=3,
        max_time=9,
    )
    assert list(timings) == ["a", "b"]
    assert timings["a"].median == pytest.approx(0.1)
    assert timings["b"].median == pytest.approx(0.05)
    assert 5 <= timings["a"].rounds <= 6 and 10 <= timings["b"].rounds <= 11
    assert timings["a"].calls == timings["b"].calls == 1


def test_candidates_take_turns_and_change_who_is_first():
    clock = Clock()
    clock.compare(
        {name: clock.work(name, 0.1) for name in "abc"}, min_time=0.29, min_rounds=3, max_time=9
    )
    rounds = clock.order[3:]  # after the warm-up
    assert rounds == list("bca") + list("cab") + list("abc")


def test_short_calls_are_grouped_into_samples():
    clock = Clock()
    timings = clock.compare({"a": clock.work("a", 0.001)}, sample_time=0.02, min_time=0.1)
    assert timings["a"].calls == 20
    assert timings["a"].median == pytest.approx(0.001)


def test_first_slow_call_does_not_decide_the_group():
    clock = Clock()
    timings = clock.compare({"a": clock.work("a", 0.015, 0.001)}, sample_time=0.02)
    assert timings["a"].calls == 20


def test_budget_ends_slow_candidates():
    clock = Clock()
    timings = clock.compare(
        {"slow": clock.work("slow", 0.4), "slower": clock.work("slower", 5.0)},
        min_rounds=7,
        max_time=1.0,
    )
    assert timings["slow"].rounds == 3  # 1.2 s
    assert timings["slower"].rounds == 1 and timings["slower"].median == 5.0
    assert clock.order.count("slower") == 1


def test_spread_is_interquartile():
    clock = Clock()
    times = [0.1, 0.1, 0.2, 0.3, 0.4, 0.5]  # the first is the warm-up
    timing = clock.compare({"a": clock.work("a", *times)}, min_rounds=5, min_time=0, max_time=9)[
        "a"
    ]
    assert timing.median == pytest.approx(0.3)
    assert timing.iqr == pytest.approx(0.2)
    assert timing.spread == pytest.approx(2 / 3)
    assert Timing(0.0, 0.0, 1, 1).spread == 0


def test_short_calls_warm_up_at_each_turn():
    clock = Clock()
    work = {"short": clock.work("short", 0.001), "long": clock.work("long", 0.1)}
    options = {"sample_time": 0.003, "warm_time": 0.006, "min_rounds": 2, "min_time": 0}
    timings = clock.compare(work, **options)
    assert timings["short"].calls == 3
    assert 2 * 6 <= clock.order.count("short") - 2 - 2 * 3 <= 2 * 7  # 2 calls in the warm-up
    assert clock.order.count("long") == 1 + 2


def test_settle_is_called_before_each_turn():
    clock, calls = Clock(), []
    compare(
        {name: clock.work(name, 0.1) for name in "ab"},
        min_time=0.2,
        min_rounds=2,
        settle=lambda: calls.append(len(clock.order)),
        clock=clock,
    )
    assert calls == list(range(len(clock.order)))


def test_settle_gives_up_and_no_candidates_are_fine():
    settle(limit=0)
    settle()
    assert compare({}) == {}


def test_real_clock():
    timing = compare({"sum": lambda: sum(range(100))}, min_time=0.001, min_rounds=3)["sum"]
    assert timing.rounds >= 3 and 0 < timing.median < 1


# ---- cases --------------------------------------------------------------------------------------


def test_layers_of_the_list():
    cases = conv_cases()
    assert len(cases) == len(LECTURE_CASES) + 38
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    for case in cases:
        assert case.C % case.groups == case.OC % case.groups == 0
        assert min(case.y_shape) >= 1


def test_sizes_of_the_lecture():
    cases = {case.name: case for case in conv_cases()}
    conv1 = cases["alexnet/conv1"]
    assert conv1.y_shape == (1, 96, 55, 55)
    assert conv1.work == 2 * 96 * 363 * 3025  # (96 x 363) times (363 x 3025)
    assert cases["cs231n-notes/demo"].y_shape == (1, 2, 3, 3)
    assert cases["cs231n-notes/numpy"].y_shape == (1, 2, 4, 4)
    pool = next(case for case in POOL_CASES if case.name == "cs231n-notes/pool")
    assert pool.y_shape == (1, 64, 112, 112)


@pytest.mark.parametrize("case", conv_cases(), **by_name)
@pytest.mark.parametrize("limit", [1e5, 1e8])
def test_shrunk_layers(case, limit):
    batch = select([case], None, 4)[0]
    small = batch.shrunk(limit)
    assert small.work <= max(limit, 2 * math.prod(small.y_shape[2:]) * math.prod(case.w_shape[1:]))
    assert small.w_shape[1:] == case.w_shape[1:] and small.y_shape[2:] == case.y_shape[2:]
    if batch.work <= limit:
        assert small == batch


def test_select():
    cases = conv_cases()
    assert select(cases, None, 1) == cases
    assert {case.net for case in select(cases, "VGG16/, alexnet", 1)} == {"vgg16", "alexnet"}
    assert select(cases, "no such layer", 1) == []
    assert {case.N for case in select(cases, "vgg", 8)} == {8}


# ---- loops and verification ---------------------------------------------------------------------


def arrays(case, dtype=np.float64):
    rng = np.random.default_rng(7)
    shapes = (case.x_shape, case.w_shape, case.y_shape)
    return [(rng.random(shape) * 2 - 1).astype(dtype) for shape in shapes]


def options(case):
    return {"stride": case.stride, "padding": case.padding, "groups": case.groups}


@pytest.mark.parametrize("case", ODD_CASES, **by_name)
def test_python_loops_are_right(case):
    from fastconv import reference

    x, w, dy = arrays(case)
    np.testing.assert_allclose(
        loops.forward(x, w, **options(case)), reference.conv2d(x, w, **options(case)), atol=1e-13
    )
    np.testing.assert_allclose(
        loops.input_grad(dy, w, x.shape, **options(case)),
        reference.conv2d_input_grad(dy, w, x.shape, **options(case)),
        atol=1e-13,
    )
    np.testing.assert_allclose(
        loops.weight_grad(dy, x, w.shape, **options(case)),
        reference.conv2d_weight_grad(dy, x, w.shape, **options(case)),
        atol=1e-13,
    )


@pytest.mark.parametrize("case", ODD_POOLS, **by_name)
def test_numpy_pooling_is_right(case):
    from fastconv import reference

    x, dy = np.random.default_rng(3).random(case.x_shape), np.ones(case.y_shape)
    window = {"stride": case.stride, "padding": case.padding}
    y, indices = loops.max_pool(x, case)
    want, where = reference.max_pool2d(x, case.kernel, return_indices=True, **window)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(indices, where)
    np.testing.assert_allclose(
        loops.max_pool_grad(dy, indices, case), reference.max_pool2d_backward(dy, where, x.shape)
    )
    np.testing.assert_allclose(
        loops.avg_pool(x, case), reference.avg_pool2d(x, case.kernel, **window)
    )
    np.testing.assert_allclose(
        loops.avg_pool_grad(dy, case),
        reference.avg_pool2d_backward(dy, x.shape, case.kernel, **window),
    )


@pytest.mark.parametrize("case", ODD_CASES, **by_name)
@pytest.mark.parametrize("op", ["forward", "input_grad", "weight_grad"])
def test_oracle_gives_every_value(case, op):
    from fastconv import reference

    x, w, dy = arrays(case)
    oracle = verify.ConvOracle(case, x, w, dy)
    whole = {
        "forward": lambda: reference.conv2d(x, w, **options(case)),
        "input_grad": lambda: reference.conv2d_input_grad(dy, w, x.shape, **options(case)),
        "weight_grad": lambda: reference.conv2d_weight_grad(dy, x, w.shape, **options(case)),
    }[op]()
    single = np.array([getattr(oracle, op)(*place) for place in np.ndindex(whole.shape)])
    np.testing.assert_allclose(single, whole.ravel(), atol=1e-13)


def test_sampled_error_finds_wrong_values():
    zeros = np.zeros((2, 3, 4, 5))
    rng = np.random.default_rng(0)
    assert verify.sampled_error(zeros, lambda *place: 0.0, rng) == 0
    assert verify.sampled_error(zeros + 0.5, lambda *place: 0.0, rng) == 0.5
    corner = zeros.copy()
    corner[-1, -1, -1, -1] = 2
    assert verify.sampled_error(corner, lambda *place: 0.0, rng) == 2
    corner[0, 1, 2, 3] = np.nan
    assert verify.sampled_error(corner, lambda *place: 0.0, rng) == np.inf


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.key)
def test_candidates_are_right(operation, dtype):
    for case in ODD_POOLS if operation.pooling else ODD_CASES:
        candidates = prepare(operation, case, dtype, FULL)
        left_out = set() if operation.pooling or case.suits_winograd else {"winograd"}
        assert set(candidates) == set(operation.candidates) - left_out
        for name, candidate in candidates.items():
            assert candidate.failure == "" and candidate.error <= 1, (name, case)
            assert candidate.scale == 1


def test_large_layers_leave_out_or_shrink_the_loops():
    case = ConvCase("test", "large", 8, 40, 40, 64, 3, 3, stride=1, padding=1, groups=1)
    candidates = prepare(FORWARD, case, np.float32, QUICK)
    assert "python" not in candidates
    assert candidates["gemm"].scale == 1
    case = ConvCase("test", "larger", 32, 60, 60, 64, 3, 3, stride=1, padding=1, groups=1)
    assert prepare(FORWARD, case, np.float32, QUICK)["naive"].scale > 1


def spoiled(function, algo):
    """`function` with one wrong value for that algorithm."""

    def wrong(*args, **kwargs):
        result = function(*args, **kwargs)
        if kwargs.get("algo") == algo:
            result[tuple(size // 2 for size in result.shape)] += 1e-3
        return result

    return wrong


def test_wrong_results_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(F, "conv2d", spoiled(F.conv2d, "gemm"))
    case = ODD_CASES[0]
    result = measure_case(FORWARD, case, "float64", QUICK, 1, 1e11)
    assert result.measured["gemm"].failure == "wrong"
    assert result.measured["gemm"].timing is None and result.measured["auto"].timing is not None
    assert "WRONG" in row(result)

    args = argparse.Namespace(
        backend=None,
        filter="notes/demo", op="forward", dtype="float64", batch=1, threads=1, quick=True,
        list=False, json=None, plot=None, check_auto=False, scaling=False, error=pytest.fail,
    )  # fmt: skip
    assert run(args) == 1
    assert "WRONG: gemm on cs231n-notes/demo, forward" in capsys.readouterr().out


def test_a_single_wrong_value_of_a_large_result_is_found(monkeypatch):
    """The sample may miss it, the comparison with the other candidates does not."""
    monkeypatch.setattr(F, "conv2d", spoiled(F.conv2d, "auto"))
    case = ConvCase("test", "wide", 1, 100, 100, 8, 3, 3, stride=1, padding=1, groups=1)
    candidates = prepare(FORWARD, case, np.float64, QUICK)
    assert candidates["auto"].failure == "wrong"
    assert candidates["gemm"].failure == ""


def test_out_of_memory_is_a_missing_number(monkeypatch):
    def conv2d(*args, algo, **kwargs):
        if algo == "im2col":
            raise MemoryError
        return original(*args, algo=algo, **kwargs)

    original = F.conv2d
    monkeypatch.setattr(F, "conv2d", conv2d)
    result = measure_case(FORWARD, ODD_CASES[0], "float32", QUICK, 1, 1e11)
    assert row(result)[2 + FORWARD.candidates.index("im2col")] == "memory"


# ---- tables -------------------------------------------------------------------------------------


def fake_result(case, **milliseconds_of):
    measured = {
        name: Measured(Timing(ms / 1e3, ms / 1e4, 7, 1), scale=1.0 + (name == "naive"), error=0.0)
        for name, ms in milliseconds_of.items()
    }
    return Result(FORWARD, case, case.work, 1e11, measured)


@pytest.fixture
def results():
    cases = [case for case in conv_cases() if case.net == "vgg16"][:2]
    return [fake_result(case, naive=100, im2col=8, gemm=4, auto=2) for case in cases]


def test_rates_and_speedups(results):
    first = results[0]
    assert first.rate("auto") == pytest.approx(first.case.work / 2e-3 / 1e9)
    assert first.speedup("im2col") == pytest.approx(4)
    assert first.speedup("naive") == pytest.approx(100)  # the time on the shrunk layer, doubled
    assert math.isnan(first.rate("python"))
    summary = means(results)
    assert summary["layers"] == 2
    assert summary["speedup"]["naive"] == pytest.approx(100)
    assert summary["rate"]["auto"] == pytest.approx(
        math.sqrt(first.rate("auto") * results[1].rate("auto"))
    )


def test_geometric_mean():
    assert geometric_mean([1, 4]) == pytest.approx(2)
    assert math.isnan(geometric_mean([]))
    assert math.isnan(geometric_mean([1, math.nan]))


def test_figures():
    assert [significant(v) for v in (0.0341, 0.851, 12.34, 152.3)] == [
        "0.034",
        "0.85",
        "12.3",
        "152",
    ]
    assert [milliseconds(v) for v in (8e-6, 1.2345e-3, 0.02)] == ["0.0080", "1.234", "20.00"]
    assert [percent(v) for v in (0.004, 0.5, 1.01)] == ["0.4%", "50%", "101%"]
    assert significant(math.nan) == percent(math.nan) == "-"


def test_rows_have_a_cell_for_each_heading(results):
    shape = layout(FORWARD, [result.case for result in results])
    cells = row(results[0])
    assert len(cells) == len(shape.headings) == len(shape.widths)
    assert all(len(cell) <= width for cell, width in zip(cells, shape.widths, strict=True))
    assert cells[shape.headings.index("naive")].startswith("~")
    assert cells[shape.headings.index("x naive")] == "~100"
    assert cells[shape.headings.index("python")] == "-"


def test_plain_table_is_aligned(results):
    stream = io.StringIO()
    report = PlainReport(stream)
    with report.running(2), report.table(FORWARD, [r.case for r in results], "100 GFLOP/s") as add:
        for result in results:
            report.step(result.case.name)
            add(result)
    lines = stream.getvalue().strip().splitlines()
    assert lines[0].startswith("Convolution, forward (GFLOP/s; peak: 100 GFLOP/s)")
    table = lines[1:]
    assert len(table) == 1 + 2 + 2
    end = table[0].index("gemm") + len("gemm")
    assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in table)


def test_rich_table(results):
    rich = pytest.importorskip("rich.console")
    from fastconv.bench.report import RichReport

    for width, shown in ((150, True), (80, False)):
        stream = io.StringIO()
        report = RichReport(stream)
        report.console = rich.Console(file=stream, width=width, highlight=False)
        cases = [result.case for result in results]
        with report.running(2), report.table(FORWARD, cases, "100 GFLOP/s") as add:
            for result in results:
                report.step(result.case.name)
                add(result)
        text = stream.getvalue()
        assert "geometric mean" in text and "vgg16/1_2" in text and "x im2col" in text
        assert (results[0].case.shape_text in text) is shown
        assert "…" not in text


def test_plot(results, tmp_path):
    pytest.importorskip("matplotlib")
    from fastconv.bench.plot import draw

    machine = {"peak": 1e11, "fastconv": "0", "threads": 2, "isa": "scalar", "cpu": {"model": "-"}}
    broken = fake_result(results[0].case, im2col=8)
    broken.measured["auto"] = Measured(None, 1.0, 5.0, "wrong")
    for tables in ([results], [results, [*results, broken]]):
        draw(str(tmp_path / "chart.png"), tables, machine, dtype="float32", batch=1)
        assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_environment_goes_into_json():
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["isa"] in found["available_isas"]
    assert found["threads"] >= 1 and found["cpu"]["usable_cores"] >= 1


def test_share_of_others_is_a_share():
    share = others_share(0.05)
    assert share is None or 0 <= share <= 1


# ---- is the choice right, how does it grow ------------------------------------------------------


def verdict(picked, **seconds):
    return check_auto.Verdict("forward", ODD_CASES[0], 1, picked, seconds)


def test_verdicts():
    right = verdict("gemm", gemm=1.1, winograd=1.0, im2col=2.0)
    assert right.best == "winograd" and right.ratio == 1.1 and right.right
    assert not right.line(12).endswith("<")
    wrong = verdict("gemm", gemm=1.2, winograd=1.0)
    assert not wrong.right and wrong.line(12).endswith("<")
    assert verdict("gemm", im2col=1.0).ratio == math.inf  # gemm's result was wrong
    assert right.right_among_its_own and not wrong.right_among_its_own
    assert verdict("gemm", gemm=2.0, winograd=1.9, im2col=1.0).right_among_its_own
    assert not verdict("gemm", im2col=1.0).right_among_its_own
    assert len(wrong.line(12)) - 3 == len(right.line(12))


def test_check_auto_tells_a_wrong_choice(monkeypatch, capsys):
    """Status 1, and choices that were measured by `tune` are not what is checked."""
    slow = {"gemm": 3e-3, "winograd": 1e-3, "im2col": 2e-3}
    monkeypatch.setattr(
        check_auto, "compare", lambda calls, **_: {n: Timing(slow[n], 0, 7, 1) for n in calls}
    )
    args = argparse.Namespace(
        backend=None,
        filter="vgg16/1_1", op="forward", dtype="float32", batch=1, threads=1, json=None,
        error=pytest.fail,
    )  # fmt: skip
    machine = {"fastconv": "0", "isa": "scalar", "cpu": {"model": "-"}}
    status, found = check_auto.run(args, QUICK, machine)
    summary = {"right": 0, "right without im2col": 1, "layers": 1, "share": 0}
    assert status == 1 and found["summary"] == summary
    (result,) = found["results"]
    assert (result["auto"], result["best"], result["ratio"]) == ("gemm", "im2col", 1.5)
    slow["gemm"] = 1e-3
    assert check_auto.run(args, QUICK, machine)[0] == 0


def test_values_along_an_axis():
    base = {case.name: case for case in conv_cases()}
    dw, conv2, conv1 = (base[n] for n in ("mobilenet/dw14", "alexnet/conv2", "alexnet/conv1"))
    assert scaling.values("C", dw) == [128, 256, 512, 1024, 2048]
    assert scaling.changed("C", 128, dw).groups == scaling.changed("C", 128, dw).OC == 128
    assert scaling.changed("C", 33, conv2) is None  # two groups
    assert scaling.changed("H", 8, conv1) is None  # less than the filter
    assert scaling.changed("H", 54, conv1).W == 54
    assert scaling.changed("N", 64, base["vgg16/1_2"]) is None  # 3 GB
    assert scaling.changed("threads", 2, dw) == dw
    with fastconv.threads(6):
        assert scaling.values("threads", dw) == [1, 2, 4, 6]


# ---- the scripts in benchmarks/ -----------------------------------------------------------------


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="not in a checkout")
def test_benchmarks_is_the_bench_command():
    # as a folder, not with -m, which would put the sources of fastconv before the installed package
    command = [sys.executable, "benchmarks", "--list", "--filter", "vgg16/1_1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("vgg16/1_1")


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="not in a checkout")
def test_random_cases_against_torch(torch):
    """A few; the whole comparison is ``python benchmarks/random_vs_torch.py``."""
    command = [sys.executable, "benchmarks/random_vs_torch.py", "--cases", "60", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 cases" in done.stdout
