"""The ``fastconv`` command: exit statuses, single lines for mistakes, clean ends."""

import json
import os
import signal
import subprocess
import sys

import pytest

import fastconv
from fastconv import cli

COMMAND = [sys.executable, "-m", "fastconv"]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")


def fastconv_command(*args, **options):
    options = {"capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([*COMMAND, *args], **options)


def bench(*args, **options):
    return fastconv_command("bench", "--quick", "--filter", "cs231n-notes/demo", *args, **options)


# ---- mistakes -----------------------------------------------------------------------------------

MISTAKES = {
    "nothing": ([], "info, bench, summary, profile, backends, demo"),
    "unknown command": (["frobnicate"], "frobnicate"),
    "unknown option": (["info", "--frob"], "--frob"),
    "unknown option of bench": (["bench", "--frob"], "--frob"),
    "no such layer": (["bench", "--filter", "nosuchlayer"], "nosuchlayer"),
    "operation": (["bench", "--op", "sideways"], "sideways"),
    "dtype": (["bench", "--dtype", "float16"], "float16"),
    "batch of nothing": (["bench", "--batch", "0"], "--batch"),
    "batch without end": (["bench", "--batch", "99999999999999999999"], "--batch"),
    "too many threads": (["bench", "--threads", "1000"], "--threads"),
    "half a thread": (["bench", "--threads", "1.5"], "--threads"),
    "option without value": (["bench", "--filter"], "--filter"),
    "JSON to nowhere": (["bench", "--json", "/no/such/folder/x.json"], "/no/such/folder/x.json"),
    "JSON to a folder": (["bench", "--json", "."], "'.'"),
    "plot that is no picture": (["bench", "--plot", "chart.txt"], "chart.txt"),
    "two commands": (["bench", "--check-auto", "--scaling"], "--scaling"),
    "plot of a check": (["bench", "--check-auto", "--plot", "x.png"], "--check-auto"),
    "check without a choice": (["bench", "--check-auto", "--op", "weight_grad"], "--check-auto"),
    "scaling from nowhere": (["bench", "--scaling", "--filter", "resnet50/3_"], "resnet50/3_ds"),
    "scaling of a pool": (["bench", "--scaling", "--filter", "pool3x3"], "pool3x3"),
    "check of a pool": (["bench", "--check-auto", "--filter", "pool3x3"], "pool3x3"),
    "scaling of pooling": (["bench", "--scaling", "--op", "pool"], "--scaling"),
    "plot of pooling": (["bench", "--op", "pool", "--plot", "x.png"], "pooling"),
    "no net": (["summary"], "NAME"),
    "no such net": (["summary", "vgg-16"], "did you mean vgg16"),
    "nothing like it": (["profile", "-"], "lenet5"),
    "pattern without images": (["summary", "INPUT -> FC(3)"], "--input 3x32x32"),
    "no shape": (["summary", "lenet5", "--input", "32by32"], "3x224x224"),
    "images of nothing": (["summary", "lenet5", "--input", "1x0x32"], "1x0x32"),
    "flat images": (["profile", "lenet5", "--input", "1x32"], "images of 1x32"),
    "images too small": (["summary", "lenet5", "--input", "1x8x8"], "in layer "),
    "net with filters": (["summary", "lenet5", "--filters", "8"], "--filters"),
    "filters of a word": (["summary", "INPUT -> CONV", "--filters", "many"], "many"),
    "more than fits": (
        ["profile", "INPUT -> CONV(999)", "--input", "3x999x999", "--batch", "65536"],
        "TB",
    ),
    "profile with no time": (["profile", "lenet5", "--seconds", "0"], "'0'"),
    "training prepared": (["profile", "lenet5", "--training", "--prepared"], "--training"),
    "profile without end": (["profile", "lenet5", "--seconds", "inf"], "inf"),
    "profile with threads": (["profile", "lenet5", "--threads", "9999"], "9999"),
    "picture that is none": (["profile", "lenet5", "--png", "chart.txt"], "chart.txt"),
    "picture to nowhere": (["profile", "lenet5", "--png", "/no/such/x.png"], "/no/such/x.png"),
    "profile to a folder": (["profile", "lenet5", "--json", "."], "'.'"),
}


@pytest.mark.parametrize(("args", "named"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line_and_status_2(args, named, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(args)
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert err.startswith("fastconv") and err.count("\n") == 1
    assert named in err


def test_mistake_in_a_process():
    done = fastconv_command("bench", "--op", "sideways")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_plot_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", "--plot", "chart.png"])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("pip install 'fastconv[plot]'\n")


# ---- ends ---------------------------------------------------------------------------------------


@posix
def test_ctrl_c():
    with subprocess.Popen(
        [*COMMAND, "bench", "--op", "forward"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts its background jobs with interrupts ignored, and they inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        process.stdout.readline()  # it has begun
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fastconv: interrupted\n"


@posix
def test_closed_pipe():
    with subprocess.Popen(
        [*COMMAND, "bench", "--list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 141
    assert err == b""


# ---- version, help, info ------------------------------------------------------------------------


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastconv {fastconv.__version__}\n"


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help(args, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(args)
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: fastconv")


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("CPU", "cores", "caches", "features", "kernels", "threads", "NumPy", "BLAS"):
        assert f"\n{word} " in "\n" + out
    assert fastconv.isa() in out


def test_info_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["isa"] == fastconv.isa()
    assert found["threads"] == fastconv.get_num_threads()


def test_info_says_where_the_threads_come_from():
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
        done = fastconv_command("info", env=clean | {name: "1"})
        line = next(line for line in done.stdout.splitlines() if line.startswith("threads"))
        assert line.split(maxsplit=1)[1] == f"1, from {name}=1"


def test_importing_the_command_is_cheap():
    heavy = "{'argparse', 'rich', 'matplotlib', 'fastconv.bench', 'fastconv.demo'}"
    code = f"import sys, fastconv.cli; print(*({heavy} - {{'argparse'}}) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""


# ---- bench --------------------------------------------------------------------------------------


def test_list(capsys):
    assert cli.main(["bench", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("vgg16/1_2 ") and "3.699 GFLOP" in line for line in lines)
    assert any(line.startswith("resnet50/pool1 ") for line in lines)


def test_bench_prints_tables():
    done = bench("--threads", "1", "--dtype", "float64", "--batch", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "float64" in done.stdout and "1 thread" in done.stdout
    for title in ("forward", "gradient of the input", "gradient of the weights"):
        assert f"Convolution, {title} (GFLOP/s" in done.stdout
    assert done.stdout.count("cs231n-notes/demo") == 3
    assert done.stdout.count("geometric mean") == 3
    assert "\x1b" not in done.stdout  # no colours in a pipe


def test_pooling(tmp_path):
    target = tmp_path / "pool.json"
    done = fastconv_command(
        "bench", "--quick", "--op", "pool", "--filter", "cifar/pool", "--json", str(target)
    )
    assert done.returncode == 0, done.stderr
    assert "Max pooling with its indices (GB/s" in done.stdout
    content = json.loads(target.read_text(encoding="utf-8"))
    operations = [result["operation"] for result in content["results"]]
    assert operations == ["max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad"]
    assert all(result["unit"] == "GB/s" for result in content["results"])


def test_json_on_stdout():
    done = bench("--op", "forward", "--json", "-")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert "geometric mean" in done.stderr
    assert content["environment"]["peak"] > 0
    assert content["settings"]["quick"] is True
    (result,) = content["results"]
    assert result["name"] == "cs231n-notes/demo" and result["work"] == 2 * 18 * 27
    # stride 2 has no Winograd form
    assert set(result["candidates"]) == {"python", "naive", "im2col", "gemm", "auto"}
    for found in result["candidates"].values():
        assert found["seconds"] > 0 and found["error_in_tolerances"] <= 1 and found["rounds"] >= 1
        assert found["rate"] == pytest.approx(result["work"] / found["seconds"] / 1e9)
    assert content["geometric_means"]["forward"]["layers"] == 1


def test_plot_and_json_files(tmp_path):
    pytest.importorskip("matplotlib")
    chart, numbers = tmp_path / "chart.png", tmp_path / "numbers.json"
    done = bench("--plot", str(chart), "--json", str(numbers))
    assert done.returncode == 0, done.stderr
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(numbers.read_text(encoding="utf-8"))["results"]) == 3


def test_check_auto(tmp_path):
    target = tmp_path / "check.json"
    args = ("bench", "--check-auto", "--quick", "--filter", "cs231n-notes", "--json", str(target))
    done = fastconv_command(*args, "--op", "input_grad", "--threads", "1")
    assert done.returncode in (0, 1), done.stderr  # another process may take the processor
    content = json.loads(target.read_text(encoding="utf-8"))
    assert [result["case"]["N"] for result in content["results"]] == [1, 1, 8, 8]
    assert content["summary"]["layers"] == 4
    for result in content["results"]:
        assert result["ratio"] >= 1 and result["auto"] in result["seconds"]
        assert result["seconds"][result["best"]] == min(result["seconds"].values())
    last = done.stdout.splitlines()[-1]
    assert last.startswith('"auto" is within 10% of the best on ') and " of 4 layers" in last
    assert done.stdout.count("\nConvolution, gradient of the input, batch ") == 2


def test_scaling(tmp_path):
    pytest.importorskip("matplotlib")
    chart = tmp_path / "chart.png"
    args = ("bench", "--scaling", "--quick", "--filter", "cifar/3x3-64", "--json", "-")
    done = fastconv_command(*args, "--plot", str(chart), "--threads", "3")
    assert done.returncode == 0, done.stderr
    assert chart.read_bytes().startswith(b"\x89PNG")
    content = json.loads(done.stdout)
    found = {}
    for result in content["results"]:
        found.setdefault(result["axis"], []).append(result)
        assert result["seconds"] > 0 and result["scratch_bytes"] > 0
    assert [r["value"] for r in found["N"]] == [1, 2, 4, 8, 16, 32, 64]
    assert [r["value"] for r in found["C"]] == [8, 16, 32, 64, 128]
    assert [r["value"] for r in found["H"]] == [4, 8, 16, 32, 64]
    assert [r["threads"] for r in found["threads"]] == [1, 2, 3]
    assert found["N"][-1]["im2col_bytes"] == 64 * 32 * 9 * 16 * 16 * 4
    for heading in ("images", "channels", "image size", "threads"):
        assert f"\n{heading}\n" in done.stderr


def test_slow_blas_is_named():
    done = bench("--op", "forward", env=os.environ | {"OPENBLAS_CORETYPE": "Prescott"})
    assert done.returncode == 0, done.stderr
    assert "OPENBLAS_CORETYPE=Prescott" in done.stdout


# ---- nets ---------------------------------------------------------------------------------------

PATTERN = "INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC(10)"
PATTERN_OPTIONS = ["--input", "3x32x32", "--filters", "8,16", "--hidden", "32"]


def test_summary(capsys):
    assert cli.main(["summary", "alexnet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "input 3x224x224, float32"
    assert any(line.split()[:2] == ["features.0", "Conv2d"] for line in lines)
    assert "parameters       61,100,840 (244 MB)" in lines


def test_summary_of_a_pattern(capsys):
    assert cli.main(["summary", PATTERN, *PATTERN_OPTIONS]) == 0
    out = capsys.readouterr().out
    parameters = 8 * 28 + 16 * 73 + 32 * (16 * 8 * 8 + 1) + 10 * 33
    assert f"{parameters:,} (" in out


def test_summary_json(capsys):
    args = ["summary", "lenet5", "--json", "--batch", "3", "--dtype", "float64"]
    assert cli.main(args) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["batch"], content["dtype"]) == (3, "float64")
    assert content["totals"]["parameters"] == 61_706
    assert content["rows"][0]["forward_bytes"] == 3 * 32 * 32 * 8


def test_a_pattern_that_is_wrong_is_pointed_at(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["summary", "INPUT -> CONV(8", "--input", "3x32x32"])
    assert end.value.code == 2
    message, pattern, caret = capsys.readouterr().err.splitlines()
    assert message.startswith("fastconv summary: ")
    assert pattern[caret.index("^")] == "("


def test_profile(tmp_path):
    pytest.importorskip("matplotlib")
    chart, numbers = tmp_path / "chart.png", tmp_path / "numbers.json"
    files = ("--png", str(chart), "--json", str(numbers))
    args = (PATTERN, *PATTERN_OPTIONS, "--seconds", "0.01", "--sort", "--threads", "1", *files)
    done = fastconv_command("profile", *args, "--training", "--batch", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert done.stdout.startswith("pattern: training, 2 x 3x32x32, float32, 1 thread, ")
    assert done.stdout.endswith(f"picture  {chart}\n")
    assert "Conv2d + ReLU" in done.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    content = json.loads(numbers.read_text(encoding="utf-8"))
    seconds = [row["seconds"] for row in content["rows"]]
    assert seconds == sorted(seconds, reverse=True)


def test_profile_json_on_stdout(capsys):
    args = ["profile", "lenet5", "--prepared", "--seconds", "0.01", "--json", "-"]
    assert cli.main(args) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["title"] == "lenet5" and len(content["rows"]) == 12
    assert content["mode"] == "inference, prepared"


def test_picture_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as end:
        cli.main(["profile", "lenet5", "--png", "chart.png"])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("pip install 'fastconv[plot]'\n")


ON_TERMINALS = {
    "info": ([], "kernels"),
    "bench": (["--quick", "--filter", "notes/demo"], "geometric mean"),
    "summary": (["lenet5"], "61,706"),
    "profile": (["lenet5", "--seconds", "0.01"], "by kind"),
}


@posix
@pytest.mark.parametrize("command", ON_TERMINALS, ids=ON_TERMINALS)
def test_on_a_terminal(command):
    """Tables by rich where it is installed, and the same words without it."""
    arguments, word = ON_TERMINALS[command]
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, command, *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(child)
    text = b""
    while chunk := _read(parent):
        text += chunk
    os.close(parent)
    assert process.wait(timeout=60) == 0
    assert b"Traceback" not in text
    assert word.encode() in text
    try:
        import rich  # noqa: F401
    except ImportError:
        return
    assert b"\x1b[" in text


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux' way to say that the other end is closed
        return b""


def test_without_rich(monkeypatch):
    from fastconv.bench import report

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(report.make_report(Terminal()), report.PlainReport)
