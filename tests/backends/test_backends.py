"""`fastconv.backends`: what is replaced, what is put back, and what is refused, on a small net."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

from fastconv import backends, cli
from fastconv.backends import Backend, BackendError, Replacement, __main__, _replace

NET = {
    "__init__.py": "",
    "util.py": "def im2col(x, size, stride=1):\n    return 'slow', x, size, stride\n",
    "layers.py": (
        "from toynet.util import im2col\n"
        "def conv(x):\n    return im2col(x, 3)\n"
        "class Base:\n    def backward(self, dy):\n        return 'slow', dy\n"
        "class Pool(Base):\n"
        "    @staticmethod\n    def forward(x):\n        return 'slow', x\n"
    ),
}


def im2col(original, x, size, stride=1):
    return ("fast", *original(x, size, stride)[1:])


def backward(original, self, dy):
    return "fast", dy


def forward(original, x):
    return "fast", x


COLUMNS = Replacement("toynet.util.im2col", im2col, everywhere=True)
POOL = (
    Replacement("toynet.layers.Pool.backward", backward),
    Replacement("toynet.layers.Pool.forward", forward),
)


def toy(*replacements, package="toynet", **others):
    return Backend(package, "toynet 1 (made by this test)", replacements, **others)


@pytest.fixture
def net(tmp_path, monkeypatch):
    """A package `toynet` that can be imported, and is forgotten afterwards."""
    folder = tmp_path / "toynet"
    folder.mkdir()
    for name, text in NET.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    backends.uninstall(toy())
    for name in [name for name in sys.modules if name.partition(".")[0] == "toynet"]:
        del sys.modules[name]


@pytest.fixture
def registered(net, monkeypatch):
    """The same as a backend that comes with fastconv, with an option."""
    module = ModuleType("fastconv.backends.toynet")
    module.backend = lambda *, ties="first": toy(COLUMNS, *POOL)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(backends.NAMES, "toynet", "a toy")
    return net


def test_replaced_everywhere_and_restored(net):
    from toynet import layers, util

    original, inherited = util.im2col, layers.Base.backward
    static = vars(layers.Pool)["forward"]
    backends.install(toy(COLUMNS, *POOL))
    assert layers.conv(1) == ("fast", 1, 3, 1) and util.im2col(1, size=2) == ("fast", 1, 2, 1)
    assert layers.Pool().backward(5) == ("fast", 5) and layers.Base().backward(5) == ("slow", 5)
    assert layers.Pool.forward(2) == layers.Pool().forward(2) == ("fast", 2)
    assert util.im2col.__name__ == "im2col"

    late = ModuleType("imported_later")  # as `from toynet.util import im2col` in a script
    late.im2col = util.im2col
    sys.modules[late.__name__] = late
    try:
        backends.uninstall(toy())
    finally:
        del sys.modules[late.__name__]
    assert util.im2col is original and layers.im2col is original and late.im2col is original
    assert layers.Pool.backward is inherited and "backward" not in vars(layers.Pool)
    assert vars(layers.Pool)["forward"] is static


def test_installing_twice_is_harmless(net):
    from toynet import util

    original = util.im2col
    backends.install(toy(COLUMNS))
    active = util.im2col
    backends.install(toy(COLUMNS))
    assert util.im2col is active
    backends.uninstall(toy())
    backends.uninstall(toy())
    assert util.im2col is original


def test_use_leaves_things_as_they_were(net):
    from toynet import util

    original = util.im2col
    with pytest.raises(RuntimeError), backends.use(toy(COLUMNS)):
        assert util.im2col is not original
        raise RuntimeError
    assert util.im2col is original
    backends.install(toy(COLUMNS))
    active = util.im2col
    with backends.use(toy(COLUMNS)):
        assert util.im2col is active
    assert util.im2col is active


def test_other_options_install_again(registered):
    from toynet import util

    original = util.im2col
    backends.install("toynet")
    with backends.use("toynet", ties="split"):
        assert [s.options for s in backends.status() if s.name == "toynet"] == [{"ties": "split"}]
    assert [s.options for s in backends.status() if s.name == "toynet"] == [{}]
    backends.uninstall("toynet")
    assert util.im2col is original


def test_another_backend_of_the_same_net_takes_the_place(registered):
    from toynet import util

    def again(original, x, size, stride=1):
        return "faster"

    first, second = toy(COLUMNS), toy(Replacement("toynet.util.im2col", again, everywhere=True))
    original = util.im2col
    backends.install(first)
    with backends.use(second):
        assert util.im2col(1, 2) == "faster"
    assert util.im2col(1, 2)[0] == "fast"
    backends.install(second)
    assert util.im2col(1, 2) == "faster"
    backends.install("toynet")
    assert util.im2col(1, 2)[0] == "fast"
    with backends.use(second):
        assert util.im2col(1, 2) == "faster"
    assert util.im2col(1, 2)[0] == "fast"
    backends.uninstall("toynet")
    assert util.im2col is original


def test_functions_of_a_stand_in_give_way_to_the_true_ones(net):
    standin = ModuleType("toynet.compiled")
    exec("def count(): return 'fast'", vars(standin))
    backend = toy(modules={"toynet.compiled": standin})
    (net / "fast.py").write_text("from toynet.compiled import count\n")
    (net / "again.py").write_text("from toynet.compiled import count\n")
    with backends.use(backend):
        import toynet.fast
    assert toynet.fast.count() == "fast"  # there is no other
    (net / "compiled.py").write_text("def count(): return 'slow'\n")
    with backends.use(backend):
        import toynet.again
    assert toynet.again.count() == toynet.fast.count() == "slow"


def test_stand_in_modules(net):
    standin, real = ModuleType("toynet.compiled"), ModuleType("toynet.compiled")
    (net / "fast.py").write_text("from toynet.compiled import *\nimport toynet.compiled as c\n")
    backend = toy(modules={"toynet.compiled": standin})
    with backends.use(backend):
        import toynet
        import toynet.fast

        assert toynet.fast.c is standin and toynet.compiled is standin
    assert "toynet.compiled" not in sys.modules and not hasattr(toynet, "compiled")
    sys.modules["toynet.compiled"] = toynet.compiled = real
    with backends.use(backend):
        assert sys.modules["toynet.compiled"] is standin
    assert sys.modules["toynet.compiled"] is real and toynet.compiled is real


@pytest.mark.parametrize(
    "replacement, words",
    [
        (Replacement("toynet.util.im2row", im2col), ("there is no toynet.util.im2row", "toynet 1")),
        (Replacement("toynet.utils.im2col", im2col), ("there is no toynet.utils.im2col",)),
        (
            Replacement("toynet.util.im2col", lambda original, x, kernel: None),
            ("takes (x, size, stride=1)", "made for (x, kernel)", "toynet 1"),
        ),
        (
            Replacement("toynet.util.im2col", lambda original, x, size, stride=2: None),
            ("stride=1", "stride=2"),
        ),
    ],
)
def test_a_changed_net_is_an_error_and_stays_as_it_is(net, replacement, words):
    from toynet import layers

    before = vars(layers.Pool).copy()
    with pytest.raises(BackendError) as error:
        backends.install(toy(*POOL, replacement))
    for word in words:
        assert word in str(error.value)
    assert vars(layers.Pool) == before
    assert not any(entry.name == "toynet" for entry in backends.status())


def test_a_missing_net_is_an_error():
    with pytest.raises(BackendError, match=r"no module toynet_2 here.*needs toynet 1"):
        backends.install(toy(package="toynet_2"))


def test_a_net_that_cannot_be_imported_is_an_error(net):
    (net / "__init__.py").write_text("import numpy\nnumpy.int_that_is_gone\n")
    with pytest.raises(BackendError, match=r"cannot import toynet: AttributeError.*toynet 1"):
        backends.install(toy(COLUMNS))


def test_two_backends_do_not_replace_the_same(net):
    (net.parent / "toyuser.py").write_text("import toynet.util\n")
    backends.install(toy(COLUMNS))
    with pytest.raises(BackendError, match="replaced already"):
        backends.install(toy(COLUMNS, package="toyuser"))
    del sys.modules["toyuser"]


def test_a_failure_half_way_puts_everything_back(net, monkeypatch):
    from toynet import layers, util

    original = util.im2col
    rebind, calls = _replace._rebind, []

    def fail_once(old, new):
        calls.append(new)
        return 1 / 0 if len(calls) == 1 else rebind(old, new)

    monkeypatch.setattr(_replace, "_rebind", fail_once)
    with pytest.raises(ZeroDivisionError):
        backends.install(toy(*POOL, COLUMNS))
    monkeypatch.undo()
    assert util.im2col is original and layers.Pool().backward(1) == ("slow", 1)


def test_unknown_names_and_options(registered):
    with pytest.raises(ValueError, match="there is no backend 'torch'; there are cs231n"):
        backends.install("torch")
    with pytest.raises(ValueError, match="there is no backend 'torch'"):
        backends.uninstall("torch")
    with pytest.raises(ValueError, match=r"there is no backend \['toynet'\]"):
        backends.use(["toynet"]).__enter__()
    with pytest.raises(ValueError, match=r"module\.name or module\.Class\.name, got 'im2col'"):
        backends.install(toy(Replacement("im2col", im2col)))
    with pytest.raises(TypeError, match=r"options of backend 'toynet' are .*ties.*got tie"):
        backends.install("toynet", tie="split")
    with pytest.raises(TypeError, match="a Backend takes no options here, got ties"):
        backends.install(toy(), ties="split")


# ---- python -m fastconv.backends -----------------------------------------------------------------

SCRIPT = """\
import sys
sys.path.append(sys.argv[1])
from toynet.layers import conv, Pool
print(conv(1)[0], Pool.forward(1)[0], sys.argv[2:], __name__)
"""


@pytest.fixture
def run(registered, tmp_path, monkeypatch, capsys):
    """Run a script whose net is found only once the script has added to sys.path."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    registered.rename(hidden / "toynet")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", ["", *sys.path])

    def call(*argv):
        status = 0
        try:
            __main__.main(argv)
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_runs_an_unchanged_script(run):
    assert run("toynet", "script.py", "hidden", "-x") == (0, "fast fast ['-x'] __main__\n", "")


def test_runs_a_module(run):
    assert run("toynet", "-m", "script", "hidden") == (0, "fast fast [] __main__\n", "")


def test_runs_a_script_with_options(run):
    status, out, _ = run("--option", "ties=split", "toynet", "script.py", "hidden")
    assert status == 0 and out.startswith("fast")
    assert backends.status()[-1].options == {"ties": "split"}


def test_says_when_the_net_was_never_imported(run, tmp_path):
    (tmp_path / "other.py").write_text("print('done')")
    status, out, err = run("toynet", "other.py")
    assert (status, out) == (0, "done\n") and "other.py never imported toynet" in err
    (tmp_path / "other.py").write_text("import sys; sys.exit('no such option')")
    assert run("toynet", "other.py") == ("no such option", "", "")


def test_the_file_of_a_script_is_found_from_everywhere(run, tmp_path):
    (tmp_path / "other.py").write_text("import sys; sys.exit(__file__)")
    assert run("toynet", "other.py")[0] == str(tmp_path / "other.py")


def test_says_what_is_wrong_with_the_command(run):
    for argv, words in [
        (("toynet",), "say which script"),
        (("toynet", "missing.py"), "there is no file missing.py"),
        (("torch", "script.py"), "invalid choice: 'torch'"),
        (("--option", "ties", "toynet", "script.py"), "KEY=VALUE, got 'ties'"),
        (("--option", "tie=1", "toynet", "script.py"), "got tie"),
    ]:
        status, _, err = run(*argv)
        assert status == 2 and words in err, argv


def test_a_changed_net_ends_the_script(run, tmp_path):
    util = tmp_path / "hidden" / "toynet" / "util.py"
    util.write_text("def im2col(x): pass\n")
    status, _, _ = run("toynet", "script.py", "hidden")
    assert "toynet.util.im2col takes (x)" in status


# ---- fastconv backends ---------------------------------------------------------------------------


def test_listing(registered, capsys):
    backends.install("toynet")
    assert cli.main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["toynet"] and line.endswith("yes") for line in lines)
    assert cli.main(["backends", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["toynet"]["active"] and entries["toynet"]["found"]
    assert set(entries) == set(backends.NAMES)


def test_the_command_finds_nets_in_its_folder(registered, capsys, monkeypatch):
    monkeypatch.chdir(registered.parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(registered.parent))])
    assert cli.main(["backends", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["toynet"]["found"]


def test_nothing_is_imported_until_asked_for():
    code = (
        "import sys, fastconv; assert 'fastconv.backends' not in sys.modules\n"
        "from fastconv import backends; backends.status(); backends.available()\n"
        "nets = {*backends.NAMES, 'common'} & set(sys.modules)\n"
        "assert not nets, nets"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
