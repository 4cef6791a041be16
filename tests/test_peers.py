"""``python -m benchmarks.peers``: tasks, adapters, verification, bars, and what is written."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.bench.cases import ConvCase, PoolCase
from fastconv.bench.report import Measured
from fastconv.bench.timing import Timing

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "peers").is_dir():
    pytest.skip("not in a checkout", allow_module_level=True)
sys.path.append(str(ROOT))  # last: fastconv stays the installed package
try:
    from benchmarks.peers import adapters, bars, command, measure, summary, tasks, work
    from benchmarks.peers.adapters.base import NotAvailable, Peer
finally:
    sys.path.remove(str(ROOT))

TASK = {task.key: task for task in tasks.TASKS}
CASES = {
    "conv": [
        ConvCase("test", "plain", 3, 7, 6, 4, 3, 2, stride=1, padding=1, groups=1),
        ConvCase("test", "strided", 4, 9, 8, 6, 3, 3, stride=2, padding=0, groups=2, N=2),
        ConvCase("test", "depthwise", 5, 6, 6, 5, 3, 3, stride=3, padding=2, groups=5),
        ConvCase("test", "winograd", 32, 17, 17, 32, 3, 3, stride=1, padding=1, groups=1, N=2),
    ],
    "pool": [
        PoolCase("test", "plain", 3, 8, 6, 2, 2),
        PoolCase("test", "overlapping", 2, 9, 7, 3, 2, padding=1, N=2),
    ],
    "step": [tasks.StepCase(N=4, size=16, filters=(4, 8), hidden=8)],
}


@pytest.fixture(autouse=True)
def one_thread():
    """Adapters set the threads of the whole process."""
    with fastconv.threads(1):
        yield


# ---- tasks --------------------------------------------------------------------------------------


def test_layers_of_the_tasks():
    assert len(TASK["forward"].cases(None, 1)) == 38
    assert {case.N for case in TASK["max_pool"].cases(None, 8)} == {8}
    assert [case.name for case in TASK["step"].cases("convnet", 128)] == ["convnet/step"]
    assert TASK["step"].cases("vgg16", 128) == []
    assert TASK["step"].batches((1, 8)) == (128,) and TASK["forward"].batches((1, 8)) == (1, 8)


def test_work_of_a_training_step():
    case = tasks.StepCase(N=1, size=4, filters=(2,), hidden=3, classes=5)
    layers = [2 * 16 * 27, 2 * 16 * 18, 3 * 8, 5 * 3]  # the last two on 2 channels of 2x2
    assert case.work == 2 * (3 * sum(layers) - layers[0])


def test_amounts():
    case = CASES["conv"][0]
    numbers = math.prod(case.x_shape) + math.prod(case.w_shape) + math.prod(case.y_shape)
    assert TASK["forward"].least_bytes(case) == 4 * numbers
    assert TASK["float64"].least_bytes(case) == 8 * numbers
    assert TASK["forward"].amount(case) == case.work
    assert TASK["max_pool"].amount(CASES["pool"][0]) == 4 * CASES["pool"][0].work


# ---- adapters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", adapters.PEERS)
@pytest.mark.filterwarnings("ignore")  # those of other libraries
def test_adapters_are_right(name):
    try:
        peer = adapters.load(name, 1)
    except ImportError as error:
        pytest.skip(str(error))
    assert peer.version.startswith(peer.packages[0])
    jobs = [(task, case) for task in tasks.TASKS if peer.names(task) for case in CASES[task.kind]]
    assert jobs
    for task, case in jobs:
        job = work.make_work(task, case)
        try:
            calls = peer.calls(task, job)
        except NotAvailable:
            continue
        assert tuple(calls) == peer.names(task)
        for candidate, call in calls.items():
            error = (call.work or job).error(call.value(call.run()))
            assert error <= call.slack, (candidate, task.key, case)


def test_prepared_weights_of_fastconv(monkeypatch):
    def prepare(w, b=None, *, x_shape, **options):
        assert x_shape == job.x.shape and b is None
        return lambda x: fastconv.conv2d(x, w, b, **options)

    monkeypatch.setattr(fastconv.functional, "prepare_conv2d", prepare, raising=False)
    for case in CASES["conv"]:
        job = work.make_work(TASK["prepared"], case)
        call = adapters.load("fastconv", 1).prepared(job)["fastconv"]
        assert job.error(call.value(call.run())) <= call.slack
    monkeypatch.delattr(fastconv.functional, "prepare_conv2d")
    with pytest.raises(NotAvailable, match="no prepare_conv2d"):
        adapters.load("fastconv", 1).prepared(job)


@pytest.mark.parametrize("key", ["forward", "input_grad", "weight_grad", "float64"])
def test_one_wrong_value_is_found(key):
    task, case = TASK[key], CASES["conv"][-1]
    job = work.make_work(task, case)
    value = job.fastconv_call("gemm")()
    assert job.error(value) <= 1
    value[(-1,) * value.ndim] += 1e-2 if key != "float64" else 1e-11
    assert job.error(value) > 1
    value[0] = np.nan
    assert job.error(value) == math.inf
    assert job.error(value[:1]) == math.inf


def test_wrong_indices_are_found():
    job = work.make_work(TASK["max_pool"], CASES["pool"][0])
    y, indices = fastconv.max_pool2d(job.x, 2, return_indices=True)
    assert job.error((y, indices)) == 0
    assert job.error((y, np.roll(indices, 1))) == math.inf


def test_wrong_step_is_found():
    job = work.make_work(TASK["step"], CASES["step"][0])
    net, step = job.fastconv_step("auto")
    value = {"loss": step(), **net.state_dict()}
    assert job.error(value) <= 1
    assert job.error({**value, "loss": 1.1 * value["loss"]}) > 1
    assert job.error({**value, "0.weight": job.start["0.weight"]}) > 1  # no update


def test_slack_where_winograd_fits():
    task = TASK["forward"]
    slack = [work.make_work(task, case).slack({3: 2.5}) for case in CASES["conv"]]
    assert slack == [1, 1, 1, 2.5]


# ---- measuring ----------------------------------------------------------------------------------

NO_TIME = measure.Budget(0, 1, 1, 0, 0, tries=2)


class Strange(Peer):
    name = "strange"

    def forward(self, job):
        return {"strange": work.Call(lambda: job.fastconv_call("gemm")() + 1)}

    def input_grad(self, job):
        raise ValueError("no such thing\nat all")

    def weight_grad(self, job):
        raise NotAvailable("too old")

    def prepared(self, job):
        return {}


def measured(key, peers):
    task, case = TASK[key], CASES["conv"][0]
    operation = task.operation(1, [name for peer in peers for name in peer.names(task)])
    return measure.measure_case(operation, task, case, peers, NO_TIME, 1e11)


def test_what_is_wrong_or_fails_is_not_timed_but_told():
    peers = [adapters.load("fastconv", 1), Strange(1)]
    found = {
        key: measured(key, peers) for key in ("forward", "input_grad", "weight_grad", "prepared")
    }
    failures = {key: result.measured["strange"].failure for key, result in found.items()}
    assert failures == {
        "forward": "wrong",
        "input_grad": "failed: no such thing",
        "weight_grad": "not available: too old",
        "prepared": "not available",
    }
    tables = [measure.Table(TASK[key], 1, [result]) for key, result in found.items()]
    for table in tables[:3]:
        assert table.results[0].measured["fastconv"].timing
        assert table.results[0].measured["strange"].timing is None
    lines = measure.complaints(tables)
    assert "strange, forward: WRONG" in lines[0]
    assert "strange, prepared: not available (test/plain)" in lines
    assert not measure.all_right(tables[:1]) and not measure.all_right(tables[1:2])
    assert measure.all_right(tables[2:])


def test_unsteady_layers_are_measured_again(monkeypatch):
    goes = [{"torch": Timing(1, spread, 5, 1)} for spread in (0.5, 0.3)]
    left = iter(goes)
    monkeypatch.setattr(measure, "compare", lambda *args, **kwargs: next(left))
    assert measure._timings({}, NO_TIME) is goes[1]
    left = iter(reversed(goes))
    assert measure._timings({}, NO_TIME) is goes[1]


def fake_table(key, N, layers):
    """`layers`: seconds of each candidate, for each layer."""
    task = TASK[key]
    operation, results = task.operation(N, layers[0]), []
    for seconds, case in zip(layers, task.cases(None, N), strict=False):
        timed = {name: Measured(Timing(s, 0, 9, 1), 1.0, 0.0) for name, s in seconds.items()}
        amount = task.amount(case)
        results.append(measure.PeerResult(operation, case, amount, 1e11, timed))
    return measure.Table(task, N, results)


def test_best_peer_of_each_layer():
    layers = [{"fastconv": 1, "torch": 2, "ncnn": 3, "numpy": 1}, {"fastconv": 2, "ncnn": 1}]
    first, second = fake_table("prepared", 1, layers).results
    assert (first.best(), second.best()) == ("torch", "ncnn")
    assert first.speedup(tasks.BEST) == pytest.approx(2)
    assert second.speedup(tasks.BEST) == pytest.approx(0.5)
    assert first.as_dict()["best_peer"] == "torch"


# ---- bars ---------------------------------------------------------------------------------------


def test_bars():
    tables = [
        fake_table("input_grad", 8, [{"fastconv": 1, "torch": 4}, {"fastconv": 1, "torch": 1}]),
        fake_table("weight_grad", 8, [{"fastconv": 1, "torch": 9}, {"fastconv": 2, "torch": 1}]),
        fake_table("prepared", 1, [{"torch": 1}]),
        fake_table("step", 128, [{"fastconv": 1, "torch": 3}]),
    ]
    lines = {line.what: line for line in bars.summary(tables, 1)}
    gradient = lines["input gradient N=8, 2 layers"]
    assert (gradient.measured, gradient.met) == ("2.00x / 1.00x", True)
    assert gradient.worst_layer == "cs231n-cifar/3x3-32"
    assert lines["weight gradient N=8, 2 layers"].met is False  # for its worst layer
    assert lines["forward N=1, prepared weights"].measured == "not measured"
    assert lines["forward N=1, prepared weights"].met is None
    assert (lines["one training step N=128"].measured, len(lines)) == ("3.00x", 4)


def test_bar_of_pooling_counts_only_large_arrays():
    sizes = [math.prod(case.x_shape) * 4 for case in TASK["max_pool"].cases(None, 8)]
    layers = [
        {"fastconv": 1.2 if size > 8e7 else 9, "torch": 90, "copyto": 1} for size in sizes[:2]
    ]
    line = bars.summary([fake_table("max_pool", 8, layers)], 1)[1]
    assert (line.against, line.measured, line.met) == ("copyto", "1.20x / 1.20x", True)


def test_lines_beside_the_timed_ones():
    cases = [case for case in TASK["forward"].cases("resnet50/4_3x3,cifar", 1)]
    line = bars.winograd_error(TASK["forward"], cases)
    assert line.met and line.measured.endswith("x")
    assert bars.winograd_error(TASK["forward"], CASES["conv"][:1]).met is None
    assert bars.workspace(cases).met


# ---- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--op nonsense", "'nonsense' is none of forward"),
        ("--peers torch,tf", "'tf' is none of fastconv"),
        ("--batch 1,x", "'x' is not a whole number"),
        ("--threads 0", "--threads"),
        ("--threads 999", "from 1 to 256"),
        ("--filter nowhere", "no layer's name contains 'nowhere'"),
        ("--json /no/such/folder/x", "cannot write"),
        ("--markdown /no/such/folder/x", "cannot write"),
        ("--plot chart.jpeg", "does not end in .png"),
        ("--frobnicate", "unrecognized"),
    ],
)
def test_wrong_arguments(arguments, told, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments.split())
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert told in message and message.count("\n") == 1


def test_list(capsys):
    assert (
        command.main(["--list", "--op", "forward,pool", "--filter", "alexnet", "--batch", "8"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("forward, N=8: alexnet/conv1") and len(lines) == 3


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(command, "QUICK", NO_TIME)
    monkeypatch.setattr(command, "measured_peak", lambda *args: 1e11)
    monkeypatch.setattr(command, "measured_bandwidth", lambda *args: 1e10)
    monkeypatch.setattr(command, "others_share", lambda: 0.5)
    monkeypatch.setitem(adapters.PEERS, "absent", ("no_such_adapter", "None"))
    words = "--quick --threads 1 --batch 1 --filter cifar/3x3-64,cifar/pool"
    return words.split()


def test_a_run(quickly, tmp_path, capsys):
    files = {kind: str(tmp_path / f"x.{kind}") for kind in ("json", "markdown")}
    options = [word for kind, file in files.items() for word in (f"--{kind}", file)]
    where = [*quickly, "--peers", "numpy,absent", "--op", "forward,pool"]
    assert command.main(where + options) == 0
    found = json.loads(Path(files["json"]).read_text(encoding="utf-8"))
    keys = {"environment", "settings", "interrupted", "bars", "notes", "tables"}
    assert set(found) == keys and found["interrupted"] is False
    assert [table["task"] for table in found["tables"]] == ["forward", "max_pool", "max_pool_grad"]
    assert set(found["environment"]["peers"]) == {"fastconv", "numpy"}
    assert list(found["environment"]["missing_peers"]) == ["absent"]
    result = found["tables"][0]["results"][0]
    assert result["name"] == "cs231n-cifar/3x3-64" and result["least_bytes"] > 0
    for name in ("fastconv", "numpy"):
        measured = result["candidates"][name]
        assert {"seconds", "spread", "rounds", "rate", "error_in_tolerances"} <= set(measured)
    assert set(found["bars"][0]) == {"what", "against", "bar", "measured", "worst_layer", "met"}
    text = Path(files["markdown"]).read_text(encoding="utf-8")
    for told in (
        "## Max pooling, gradient, N=1 (GB/s)",
        "| absent | left out, not installed",
        "50%",
    ):
        assert told in text
    assert "absent: left out, not installed" in capsys.readouterr().out


def test_interrupted_run_shows_what_it_has(quickly, tmp_path, monkeypatch, capsys):
    calls = []

    def measure_case(operation, task, case, *args):
        if calls:
            raise KeyboardInterrupt
        calls.append(case)
        return measure.measure_case(operation, task, case, *args)

    monkeypatch.setattr(command, "measure_case", measure_case)
    target = tmp_path / "x.json"
    where = [*quickly, "--peers", "fastconv", "--op", "forward,max_pool", "--json", str(target)]
    assert command.main(where) == 130
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["interrupted"] and [len(table["results"]) for table in found["tables"]] == [1]
    assert "interrupted" in capsys.readouterr().out
    assert command.main(where) == 130  # before the first layer
    assert json.loads(target.read_text(encoding="utf-8"))["tables"] == []


def test_chart(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.peers.chart import draw

    layers = [{"fastconv": 1e-3, "torch": 2e-3, "numpy": 3e-3}, {"fastconv": 3e-4, "torch": 1e-4}]
    machine = {
        "peak": {"float32": 1e11, "float64": 5e10},
        "bandwidth": 1e10,
        "fastconv": "0",
        "isa": "scalar",
        "threads": 2,
        "cpu": {"model": "-"},
    }
    tables = [
        fake_table("forward", 1, layers),
        fake_table("forward", 8, layers[:1]),
        fake_table("prepared", 1, [{"torch": 1}]),
        fake_table("max_pool", 8, layers),
    ]
    for count in (1, 2, 4):
        content = {"environment": machine, "tables": [t.as_dict() for t in tables[:count]]}
        target = tmp_path / f"{count}.png"
        draw(str(target), content)
        assert target.read_bytes().startswith(b"\x89PNG")


def test_summary_on_a_terminal():
    rich = pytest.importorskip("rich.console")

    class Report:
        console = rich.Console(width=150, record=True, quiet=True)

    line = bars.Line("forward", "torch", "2.00x", "1.50x", "vgg16/5_1", False)
    summary.show_summary(Report, [])
    Report.console.quiet = False
    with Report.console.capture() as shown:
        summary.show_summary(Report, [line])
    assert "vgg16/5_1" in shown.get() and "missed" in shown.get()
