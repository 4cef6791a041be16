"""The language of layer patterns: what is built, where mistakes are shown, and printing."""

import copy
import pickle
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fastconv import nets
from fastconv.layers import (
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    Sequential,
)
from fastconv.nets import PatternError
from fastconv.nets._elements import KINDS
from fastconv.nets._write import fold, write_pattern

IMAGES = (3, 32, 32)


def kinds(net):
    return " ".join(type(layer).__name__ for layer in net)


def channels(net):
    """Numbers of filters and of units, in order."""
    return [len(layer.params["weight"]) for layer in net if type(layer) in (Conv2d, Linear)]


# ---- the lecture --------------------------------------------------------------------------------

CONV, HIDDEN = "Conv2d ReLU", "Linear ReLU"
LECTURE = {  # CS231n, "ConvNet Architectures", "Layer Patterns"
    "INPUT -> FC": "Flatten Linear",
    "INPUT -> CONV -> RELU -> FC": f"{CONV} Flatten Linear",
    "INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC": (
        f"{CONV} MaxPool2d " * 2 + f"Flatten {HIDDEN} Linear"
    ),
    "INPUT -> [CONV -> RELU -> CONV -> RELU -> POOL]*3 -> [FC -> RELU]*2 -> FC": (
        f"{CONV} {CONV} MaxPool2d " * 3 + f"Flatten {HIDDEN} {HIDDEN} Linear"
    ),
}
GENERAL = "INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC"


@pytest.mark.parametrize("pattern", LECTURE)
def test_patterns_of_the_lecture(pattern):
    net = nets.build(pattern, IMAGES, 10, rng=0)
    assert kinds(net) == LECTURE[pattern]
    assert net(np.zeros((2, *IMAGES), np.float32)).shape == (2, 10)


@pytest.mark.parametrize("N", [0, 1, 3])
@pytest.mark.parametrize("M", [0, 2])
@pytest.mark.parametrize("K", [0, 2])
def test_the_general_pattern(N, M, K):
    net = nets.build(GENERAL, IMAGES, 10, N=N, M=M, K=K, filters=4, hidden=8, rng=0)
    features = ((f"{CONV} " * N) + "MaxPool2d ") * M
    assert kinds(net) == f"{features}Flatten " + f"{HIDDEN} " * K + "Linear"


def test_defaults_are_the_lectures():
    """3x3 filters, stride 1, zero padding of 1; pooling 2x2 with stride 2."""
    conv, pool = nets.build("INPUT -> CONV -> POOL", IMAGES, rng=0)
    assert conv.kernel_size == (3, 3) and conv.options["stride"] == (1, 1)
    assert conv.output_shape((1, *IMAGES)) == (1, 32, 32, 32)
    assert pool.kernel_size == (2, 2) and pool.options["stride"] == 2
    for F in (1, 3, 5, 7):
        net = nets.build(f"INPUT -> CONV(4, {F}x{F}) -> CONV(5, {F}x1, d2)", IMAGES, rng=0)
        assert net.output_shape((1, *IMAGES)) == (1, 5, 32, 32)


# ---- numbers ------------------------------------------------------------------------------------


def test_the_example_of_the_docstring():
    net = nets.build(
        "INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*2 -> FC",
        input_shape=IMAGES,
        classes=10,
        filters=(32, 64, 128),
        hidden=(256, 128),
        rng=0,
    )
    assert channels(net) == [32, 32, 64, 64, 128, 128, 256, 128, 10]


@pytest.mark.parametrize(
    ("pattern", "given", "expected"),
    [
        # a stage ends behind each pooling layer, built or not
        ("CONV -> POOL -> CONV -> CONV", {"filters": (4, 5)}, [4, 5, 5]),
        ("[CONV -> POOL?]*3", {"filters": (4, 5, 6), "optional": (False, True, False)}, [4, 5, 6]),
        ("CONV -> AVGPOOL -> CONV -> L2POOL -> CONV", {"filters": (4, 5, 6)}, [4, 5, 6]),
        ("POOL -> CONV", {"filters": (4, 5)}, [5]),
        ("[POOL]*0 -> CONV", {"filters": (4,)}, [4]),
        # numbers in the pattern come first
        ("CONV(7) -> CONV -> POOL -> CONV(8)", {"filters": [4]}, [7, 4]),
        ("CONV(7) -> FC(9) -> FC -> FC", {"hidden": [4], "classes": 3}, [7, 9, 4, 3]),
        ("FC -> [FC]? -> FC", {"hidden": [4], "classes": 3, "optional": False}, [4, 3]),
        ("[FC]*3", {"hidden": np.int64(6), "classes": 2}, [6, 6, 2]),
        ("FC -> FC(3)", {"hidden": 2}, [2, 3]),
        ("FC(3)", {"classes": 3}, [3]),
    ],
)
def test_where_numbers_go(pattern, given, expected):
    found = channels(nets.build(f"INPUT -> {pattern}", IMAGES, rng=0, **given))
    assert found[: len(expected)] == expected


@pytest.mark.parametrize(
    ("pattern", "given", "message"),
    [
        ("[CONV -> POOL]*2", {"filters": (4, 5, 6)}, r"filters has 3 numbers.*2 stages"),
        ("[CONV -> POOL]*2", {"filters": (4,)}, r"filters has 1 numbers.*2 stages"),
        ("CONV(4)", {"filters": (4,)}, r"filters has 1 numbers.*0 stages"),
        ("FC -> FC", {"hidden": (1, 2), "classes": 3}, r"hidden has 2 numbers.*1 FC without"),
        ("CONV", {"filters": (0,)}, "filters must be at least 1, got 0"),
        ("[POOL?]*2", {"optional": (True,)}, r"optional has 1 answers.*are 2"),
        ("RELU", {"optional": (True,)}, r"optional has 1 answers.*are 0"),
        ("RELU", {"input_shape": (3, 32)}, r"input_shape=\(3, 32\), expected \(C, H, W\) or"),
        ("RELU", {"fit": "pad"}, "fit must be 'floor' or 'strict', got 'pad'"),
    ],
)
def test_wrong_numbers(pattern, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        nets.build(f"INPUT -> {pattern}", **{"input_shape": IMAGES, **given})
    assert not isinstance(caught.value, PatternError)


def test_wrong_types():
    with pytest.raises(TypeError, match="pattern must be a string, got int"):
        nets.build(5)
    with pytest.raises(TypeError, match=r"unknown argument filter: the pattern has no \*filter"):
        nets.build("INPUT -> CONV", IMAGES, filter=5)
    with pytest.raises(TypeError, match=r"no \*M; it has N"):
        nets.build("INPUT -> [CONV]*N", IMAGES, N=1, M=2)
    with pytest.raises((TypeError, ValueError), match="dtype"):
        nets.build("INPUT -> CONV", IMAGES, dtype=np.int32)


# ---- arguments ----------------------------------------------------------------------------------


def test_arguments():
    net = nets.build(
        "INPUT(4x40x30) -> CONV(6, 5x3, s2x1, p0, d2, g2, nobias) -> POOL(3x3, s2, p1, ceil) -> "
        "AVGPOOL(2x3, s1) -> LRN(3, a0.01, b0.5, k1) -> GAP -> FC(5, nobias)",
        rng=0,
    )
    conv, pool, mean, norm, overall, flat, last = net
    assert conv.kernel_size == (5, 3) and conv.params.keys() == {"weight"}
    assert conv.params["weight"].shape == (6, 2, 5, 3)
    options = {"stride": (2, 1), "padding": (0, 0), "dilation": (2, 2), "groups": 2}
    assert options.items() <= conv.options.items()
    assert isinstance(pool, MaxPool2d) and pool.kernel_size == (3, 3)
    assert {"stride": 2, "padding": 1, "ceil_mode": True}.items() <= pool.options.items()
    assert isinstance(mean, AvgPool2d) and (mean.kernel_size, mean.options["stride"]) == ((2, 3), 1)
    assert isinstance(norm, LocalResponseNorm)
    assert (norm.size, norm.alpha, norm.beta, norm.k) == (3, 0.01, 0.5, 1)
    assert isinstance(overall, GlobalAvgPool2d) and isinstance(flat, Flatten)
    assert last.params.keys() == {"weight"}


def test_spaces_lines_and_arrows_do_not_matter():
    texts = [
        "INPUT(3x8x8)->CONV(4,3x3)->RELU->FC(2)",
        "  INPUT ( 3x8x8 ) → CONV(4, 3x3)\n\t-> RELU →FC ( 2 )\n",
        "[INPUT(3x8x8) -> CONV(4)]*1 -> FC(2)",
    ]
    assert str(nets.build(texts[0], rng=0)) == str(nets.build(texts[1], rng=0))
    with pytest.raises(PatternError, match="begins with INPUT"):
        nets.build(texts[2])


def test_vectors_go_in_as_well():
    net = nets.build("INPUT(7) -> FC(5) -> RELU -> FC(2)", rng=0)
    assert kinds(net) == "Linear ReLU Linear" and net.input_shape == (7,)
    assert net.output_shape((3, 7)) == (3, 2)
    assert str(net) == "INPUT(7) -> FC(5) -> RELU -> FC(2)"


def test_weights_come_from_one_source():
    one, same = (nets.build(GENERAL, IMAGES, 10, N=2, M=1, K=1, rng=3) for _ in range(2))
    other = nets.build(GENERAL, IMAGES, 10, N=2, M=1, K=1, rng=4)
    for name, value in one.params.items():
        np.testing.assert_array_equal(value, same.params[name])
    assert (one.params["0.weight"] != other.params["0.weight"]).any()
    wide = nets.build("INPUT -> [CONV(3)]*2", IMAGES, rng=0, dtype=np.float64)
    assert wide.params["0.weight"].dtype == np.float64
    assert (wide.params["0.weight"] != wide.params["1.weight"]).any()


# ---- mistakes -----------------------------------------------------------------------------------

# A pattern with a ^ before what is wrong, and what is said about it.
MISTAKES = {
    "^": "expected a layer such as CONV or",
    "INPUT ->^": "expected a layer such as CONV .* found the end",
    "^CONV -> FC": "begins with INPUT",
    "^[INPUT -> CONV]*2": "begins with INPUT",
    "INPUT -> ^INPUT": "INPUT comes first, and once",
    "INPUT ^CONV": 'expected "->" here, found "CONV"',
    "INPUT -> [CONV ^RELU]*2": 'expected "->" or "]" here, found "RELU"',
    "INPUT -> CONV -> ^-> RELU": 'expected a layer .* found "->"',
    "INPUT -> ^[CONV -> [RELU]*2": '"\\[" is never closed',
    "INPUT -> CONV^] -> FC": '"\\]" closes nothing',
    "INPUT -> [^] -> FC": "brackets are empty",
    "INPUT -> RELU^*3": r"only brackets repeat: write \[RELU\]\*3",
    "INPUT -> [RELU]* ^-> FC": 'a number, or a letter such as "N", behind "\\*" here, found "->"',
    "INPUT -> [RELU]*^two": 'here, found "two"',
    "INPUT -> [RELU]*^N": "how often is N\\? .* N=2",
    "INPUT -> [RELU]*^2000": "more than 1000 layers",
    "INPUT -> [[RELU]*100]*^100": "more than 1000 layers",
    "INPUT -> [RELU]?^*2": 'expected "->" here, found "\\*"',
    "INPUT -> ^CONF": "no layer is called CONF: did you mean CONV\\?",
    "INPUT -> ^conv": "did you mean CONV\\?",
    "INPUT -> ^XYZZY": "there are CONV, POOL",
    "INPUT -> CONV ^& RELU": '"&" has no meaning',
    "INPUT -> CONV ^- RELU": '"-" has no meaning',
    "INPUT -> CONV(^)": "expected an argument such as 64",
    "INPUT -> CONV^(64": '"\\(" is never closed',
    "INPUT -> CONV(64 ^3x3)": 'expected "," or "\\)" here, found "3x3"',
    "INPUT -> CONV(64, ^32)": "has a number of filters such as 64 already; a window is written",
    "INPUT -> CONV(s1, ^s2)": "has a stride such as s2 already",
    "INPUT -> CONV(64, ^s1.5)": '"s1.5": expected a stride such as s2',
    "INPUT -> CONV(64, ^3x3x3)": '"3x3x3": expected a window such as 3x3',
    "INPUT -> CONV(64, ^q3)": 'CONV takes a number of filters .* nobias; not "q3"',
    "INPUT -> CONV(^12345678901)": "CONV takes a number",
    "INPUT -> RELU(^2)": 'RELU takes no arguments; not "2"',
    "INPUT -> ^CONV(4, s0)": "stride must be at least 1",
    "INPUT -> ^CONV(4, g2)": "groups=2 must divide",
    "INPUT -> ^CONV(4, 2x2)": "give one, such as p0",
    "INPUT -> ^DROPOUT(2)": "p must",
    "INPUT -> [POOL]*5 -> ^POOL": "POOL on 3x1x1: .*there is no output",
    "INPUT -> FC(4) -> ^CONV": "needs images, but here are vectors of 4",
    "INPUT(^3x32) -> CONV": '"3x32": expected sizes as 3x32x32',
    "^INPUT(3x16x16) -> CONV": r"not the same",
    "INPUT -> FC(3) -> ^FC": "the size of the last FC is missing",
    "^" + "[" * 60: "more than 50 brackets",
}


@pytest.mark.parametrize("marked", MISTAKES)
def test_mistakes_are_shown_where_they_are(marked):
    at, pattern = marked.index("^"), marked.replace("^", "", 1)
    with pytest.raises(PatternError, match=MISTAKES[marked]) as caught:
        nets.build(pattern, IMAGES)
    error = caught.value
    if "[[[" not in pattern:
        assert error.position == at
    assert error.pattern == pattern
    *_, line, caret = str(error).split("\n")
    assert line == "  " + pattern and caret == "  " + " " * error.position + "^"


def test_classes_that_do_not_fit_the_pattern():
    with pytest.raises(PatternError, match='no FC for the 10 classes: add "-> FC"') as caught:
        nets.build("INPUT -> CONV", IMAGES, 10)
    assert caught.value.position == len("INPUT -> CONV")
    with pytest.raises(PatternError, match="the last FC is for the classes, classes=10"):
        nets.build("INPUT -> FC(9)", IMAGES, 10)
    with pytest.raises(PatternError, match="shape of the images is missing"):
        nets.build("INPUT -> FC(9)")


def test_windows_must_fit_if_asked():
    """CS231n, "Constraints on strides": W=10, P=0, F=3, S=2 is no valid choice."""
    pattern = "INPUT(3x10x10) -> RELU -> CONV(4, 3x3, s2, p0) -> FC(2)"
    nets.build(pattern)
    with pytest.raises(PatternError, match=r"=10, F=3, P=0, S=2 do not fit.*4\.5") as caught:
        nets.build(pattern, fit="strict")
    assert caught.value.position == pattern.index("CONV")
    nets.build(pattern.replace("10x10", "11x11"), fit="strict")


def test_only_the_line_that_is_wrong_is_shown():
    with pytest.raises(PatternError) as caught:
        nets.build("INPUT ->\n\tCONV ->\n\tREUL ->\n\tFC", IMAGES, 10)
    assert str(caught.value).split("\n")[1:] == ["   REUL ->", "   ^"]


def test_errors_pickle():
    with pytest.raises(PatternError) as caught:
        nets.build("INPUT -> CONV(", IMAGES)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value) and copied.position == caught.value.position


WORDS = st.sampled_from(["INPUT", "->", "[", "]", "*", "?", "(", ")", ",", " ", "\n", *KINDS])
ARGUMENTS = st.sampled_from(
    ["2", "0", "3x3", "s2", "p0.5", "N", "nobias", "é", "1e5", "²", "_", "."]
)


@given(st.lists(WORDS | ARGUMENTS, max_size=15).map("".join) | st.text(max_size=20))
def test_nonsense_is_refused_with_its_place(text):
    try:
        net = nets.build(text, (2, 4, 4), filters=2, hidden=2, rng=0)
    except PatternError as error:
        assert 0 <= error.position <= len(text)
    else:
        nets.build(str(net), rng=0)


# ---- printing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "folded"),
    [
        ("a", "a"),
        ("a b", "a b"),
        ("a a", "[a]*2"),
        ("a b a b c", "[a -> b]*2 c"),
        ("a a b a a b", "[[a]*2 -> b]*2"),
        ("x a b a b a b", "x [a -> b]*3"),
        ("a b a", "a b a"),
    ],
)
def test_what_repeats_is_put_in_brackets(words, folded):
    assert " ".join(fold(words.split())) == folded


@given(st.lists(st.sampled_from(["RELU", "TANH", "SIGMOID"]), max_size=40))
def test_brackets_say_the_same(words):
    net = nets.build(" -> ".join(["INPUT(3)", *words]))
    assert str(net) == " -> ".join(["INPUT(3)", *fold(words)])
    assert repr(nets.build(str(net))) == repr(net)


def sizes(key="", most=3):
    one = st.integers(1, most)
    pair = st.tuples(one, one).map(lambda pair: f"{key}{pair[0]}x{pair[1]}")
    return pair | one.map(lambda n: f"{key}{n}") if key else pair


@st.composite
def elements(draw, name, needed=(), **arguments):
    """The word with its needed arguments and some of the others, in any order."""
    chosen = [draw(strategy) for strategy in needed]
    chosen += [draw(s) for s in arguments.values() if draw(st.booleans())]
    chosen = draw(st.permutations(chosen))
    return f"{name}({', '.join(chosen)})" if chosen else name


POOLING = {"window": st.just("2x2") | st.just("3x2"), "stride": sizes("s", 2)}
PADDING = {"padding": st.just("p1") | st.just("p0x1"), "ceil": st.just("ceil")}
NUMBERS = st.integers(1, 6).map(str)
IMAGE_LAYERS = st.one_of(
    elements("CONV", [st.just("p2")], n=NUMBERS, k=sizes(), s=sizes("s", 2)),
    elements("CONV", [st.just("p2x0")], bias=st.just("nobias")),
    elements("CONV", n=st.just("4"), k=st.sampled_from(["1x1", "5x3"]), d=sizes("d", 2)),
    elements("POOL", **POOLING, **PADDING),
    elements("AVGPOOL", **POOLING, **PADDING),
    elements("L2POOL", **POOLING),
    elements("LRN", n=NUMBERS, a=st.floats(0, 1).map(lambda a: f"a{a:.17f}"), k=st.just("k1.5")),
    elements("BN"),
    elements("DROPOUT", p=st.sampled_from(["0", "0.25", "0.1"])),
    elements("RELU") | elements("RELU6") | elements("TANH") | elements("SIGMOID"),
    elements("LEAKYRELU", slope=st.floats(0, 2).map(lambda a: f"{a:.20f}")),
    elements("PRELU", n=st.just("1")),
    elements("SOFTMAX"),
)
VECTOR_LAYERS = st.one_of(
    elements("FC", n=NUMBERS, bias=st.just("nobias")),
    elements("RELU") | elements("DROPOUT") | elements("FLATTEN") | elements("SOFTMAX"),
)


@st.composite
def parts(draw, layer, depth=2):
    items = draw(st.lists(layer, min_size=1, max_size=3))
    if depth and draw(st.booleans()):
        inner = draw(parts(layer, depth - 1))
        behind = draw(st.sampled_from(["*0", "*2", "?", ""]))
        items.insert(draw(st.integers(0, len(items))), f"[{inner}]{behind}")
    return " -> ".join(items)


@given(parts(IMAGE_LAYERS), st.sampled_from(["", "GAP -> ", "FLATTEN -> "]), parts(VECTOR_LAYERS))
def test_a_net_prints_as_a_pattern_that_builds_it(images, between, vectors):
    pattern = f"INPUT -> {images} -> {between}{vectors} -> FC"
    options = {"filters": 5, "hidden": 3, "optional": True, "dtype": np.float64, "rng": 0}
    try:
        net = nets.build(pattern, (4, 24, 20), 7, **options)
    except PatternError as error:  # a window too large for what is left, padding too large for it
        assert re.search("there is no output|padding|ends beyond|outside", str(error))
        return
    again = nets.build(str(net), dtype=np.float64, rng=0)
    assert repr(again) == repr(net) and str(again) == str(net)
    assert again.input_shape == net.input_shape == (4, 24, 20)
    assert list(again.params) == list(net.params)
    for name, value in net.params.items():
        np.testing.assert_array_equal(again.params[name], value)


def test_copies_print_the_same():
    net = nets.build("INPUT(1x8x8) -> CONV(2) -> FC(3)", rng=0)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert str(other) == str(net) and other.input_shape == (1, 8, 8)
    assert type(net[:1]) is Sequential


def test_what_has_no_word_is_not_written():
    with pytest.raises(ValueError, match="cannot be written in a pattern"):
        write_pattern(Sequential(Conv2d(3, 4, 3, padding=((0, 1), (1, 0)))), IMAGES)

    class Other(ReLU):
        pass

    with pytest.raises(ValueError, match="has no word"):
        write_pattern(Sequential(Other()), IMAGES)
