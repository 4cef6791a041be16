"""Shape rules against hand-worked sizes, brute force and PyTorch's formulas; their messages."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastconv import _geometry
from fastconv._geometry import (
    conv_geometry,
    conv_output_size,
    conv_transpose_geometry,
    freeze,
    im2col_geometry,
    image_sizes,
    pool_geometry,
    pool_output_size,
    same_padding,
)

X, W = (2, 6, 9, 11), (4, 6, 3, 3)


def test_examples_of_docstrings():
    assert doctest.testmod(_geometry).failed == 0


# ---- the lecture --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (5, 3, 1, 1, 5),
        (5, 3, 2, 1, 3),
        (32, 5, 1, 2, 32),
        (227, 11, 4, 0, 55),
        (224, 3, 1, 1, 224),
    ],
)
def test_sizes_of_the_lecture(size, kernel, stride, padding, expected):
    sizes = {"stride": stride, "padding": padding, "fit": "strict"}
    assert conv_output_size(size, kernel, **sizes) == expected


def test_strict_refuses_what_the_lecture_refuses():
    message = (
        r"W=10, F=3, P=0, S=2 do not fit: \(W - F \+ 2P\)/S \+ 1 = \(10 - 3 \+ 0\)/2 \+ 1 = 4\.5; "
        r"nearest that fit: W=9 or 11, or S=1, or 1 more padding at the end"
    )
    with pytest.raises(ValueError, match=message):
        conv_output_size(10, 3, stride=2, fit="strict")
    with pytest.raises(ValueError, match=r"conv2d: W=10, F=3.*4\.5"):
        conv_geometry((1, 1, 9, 10), (1, 1, 3, 3), stride=2, fit="strict")


def test_floor_and_pad_accept_what_strict_refuses():
    assert conv_output_size(10, 3, stride=2) == 4
    assert conv_output_size(10, 3, stride=2, fit="pad") == 5
    g = conv_geometry((1, 1, 10, 9), (1, 1, 3, 3), stride=2, fit="pad")
    assert (g.pad_begin, g.pad_end, g.out_size) == ((0, 0), (1, 0), (5, 4))


def test_strict_names_dilation_and_both_paddings():
    with pytest.raises(
        ValueError, match=r"F=5 \(kernel 3 with dilation 2\), P=1 before and 0 after"
    ):
        conv_output_size(9, 3, stride=2, dilation=2, padding=(1, 0), fit="strict")


def test_pooling_follows_the_same_rule():
    """CS231n, "Pooling Layer": (W - F)/S + 1."""
    assert pool_output_size(224, 2, fit="strict") == 112
    assert pool_output_size(55, 3, stride=2, fit="strict") == 27
    message = r"pool_output_size: W=10, F=3, P=0, S=2 do not fit: .* = 4\.5; nearest .* W=9 or 11"
    with pytest.raises(ValueError, match=message):
        pool_output_size(10, 3, stride=2, fit="strict")
    assert pool_output_size(10, 3, stride=2) == 4
    assert pool_output_size(10, 3, stride=2, fit="pad") == 5
    with pytest.raises(ValueError, match="ceil_mode=True rounds up what fit='strict' refuses"):
        pool_output_size(10, 3, stride=2, ceil_mode=True, fit="strict")
    with pytest.raises(ValueError, match="fit must be one of 'floor', 'strict', 'pad', got None"):
        pool_output_size(10, 3, fit=None)
    shape = (1, 1, 10, 9)
    assert pool_geometry(shape, 3, stride=2, fit="pad") == pool_geometry(
        shape, 3, stride=2, ceil_mode=True
    )
    # "same" leaves nothing to pad
    assert pool_geometry(shape, 3, stride=2, padding="same", fit="pad") == pool_geometry(
        shape, 3, stride=2, padding="same"
    )
    with pytest.raises(ValueError, match=r"H=10, F=3, P=0, S=2 do not fit"):
        pool_geometry(shape, 3, stride=2, fit="strict")


@pytest.mark.parametrize(("kernel", "expected"), [(1, 0), (3, 1), (5, 2), (7, 3), (11, 5)])
def test_same_padding_of_the_lecture(kernel, expected):
    assert same_padding(kernel) == expected
    assert conv_output_size(32, kernel, padding=same_padding(kernel)) == 32


def test_same_padding_refuses_even_kernels():
    with pytest.raises(ValueError, match="even kernel F=4"):
        same_padding(4)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(224, 2, 2, 112), (55, 3, 2, 27), (27, 3, 2, 13), (13, 3, 2, 6)],
)
def test_pooling_sizes_of_the_lecture(size, kernel, stride, expected):
    assert pool_output_size(size, kernel, stride=stride) == expected


def test_geometry_of_the_alexnet_stem():
    g = conv_geometry((1, 3, 227, 227), (96, 3, 11, 11), stride=4, fit="strict")
    assert g.y_shape == (1, 96, 55, 55)
    columns = im2col_geometry((1, 3, 227, 227), 11, stride=4)
    assert (math.prod(columns.w_shape), math.prod(columns.out_size)) == (363, 3025)


# ---- fields -------------------------------------------------------------------------------------


def test_conv_geometry_fields():
    g = conv_geometry(
        (2, 9, 11, 6),
        (4, 3, 3, 5),
        stride=(1, 2),
        padding=((1, 0), (2, 3)),
        groups=2,
        layout="NHWC",
    )
    assert (g.ndim, g.layout, g.N, g.C, g.OC, g.groups) == (2, "NHWC", 2, 6, 4, 2)
    assert (g.in_size, g.kernel, g.stride, g.dilation) == ((9, 11), (3, 5), (1, 2), (1, 1))
    assert (g.pad_begin, g.pad_end, g.out_size) == ((1, 2), (0, 3), (8, 6))
    assert g.channels_last
    assert (g.x_shape, g.w_shape, g.y_shape) == ((2, 9, 11, 6), (4, 3, 3, 5), (2, 8, 6, 4))


def test_pool_geometry_fields():
    g = pool_geometry((2, 3, 9), 3, stride=2, padding=1, layout="NCW", ceil_mode=1)
    assert (g.ndim, g.layout, g.N, g.C, g.ceil_mode) == (1, "NCW", 2, 3, True)
    assert (g.in_size, g.kernel, g.stride, g.dilation) == ((9,), (3,), (2,), (1,))
    assert (g.pad_begin, g.pad_end, g.out_size) == ((1,), (1,), (5,))
    assert not g.channels_last
    assert (g.x_shape, g.y_shape) == ((2, 3, 9), (2, 3, 5))


@pytest.mark.parametrize(
    ("layout", "x_shape", "w_shape", "y_shape"),
    [
        ("NCW", (1, 2, 9), (4, 2, 3), (1, 4, 7)),
        ("NWC", (1, 9, 2), (4, 2, 3), (1, 7, 4)),
        ("NCHW", (1, 2, 9, 8), (4, 2, 3, 2), (1, 4, 7, 7)),
        ("NHWC", (1, 9, 8, 2), (4, 2, 3, 2), (1, 7, 7, 4)),
        ("NCDHW", (1, 2, 9, 8, 7), (4, 2, 3, 2, 1), (1, 4, 7, 7, 7)),
        ("NDHWC", (1, 9, 8, 7, 2), (4, 2, 3, 2, 1), (1, 7, 7, 7, 4)),
    ],
)
def test_layouts(layout, x_shape, w_shape, y_shape):
    g = conv_geometry(x_shape, w_shape, layout=layout)
    assert (g.x_shape, g.w_shape, g.y_shape) == (x_shape, w_shape, y_shape)
    pooled = pool_geometry(x_shape, w_shape[2:], stride=1, layout=layout)
    assert pooled.out_size == g.out_size


def test_a_repeated_question_gets_the_same_object():
    assert conv_geometry(X, W, padding=1) is conv_geometry(X, W, padding=1)
    assert pool_geometry(X, 2) is pool_geometry(X, 2)


def test_empty_batch():
    assert conv_geometry((0, 3, 5, 5), (2, 3, 3, 3)).y_shape == (0, 2, 3, 3)
    assert pool_geometry((0, 3, 6, 6), 2).y_shape == (0, 3, 3, 3)
    assert image_sizes((0, 3, 6, 6)) == (0, 3, (6, 6))


# ---- padding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ndim", "padding", "begin", "end"),
    [
        (1, 2, (2,), (2,)),
        (1, (2,), (2,), (2,)),
        (1, ((1, 2),), (1,), (2,)),
        (2, (1, 2), (1, 2), (1, 2)),
        (2, ((1, 2), (3, 4)), (1, 3), (2, 4)),
        (2, "valid", (0, 0), (0, 0)),
        (3, (1, 2, 3), (1, 2, 3), (1, 2, 3)),
        (3, ((1, 2), (3, 4), (5, 6)), (1, 3, 5), (2, 4, 6)),
    ],
)
def test_forms_of_padding(ndim, padding, begin, end):
    layout = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[ndim]
    g = conv_geometry((1, 1) + (20,) * ndim, (1, 1) + (9,) * ndim, padding=padding, layout=layout)
    assert (g.pad_begin, g.pad_end) == (begin, end)
    p = pool_geometry((1, 1) + (20,) * ndim, 9, padding=padding, layout=layout)
    assert (p.pad_begin, p.pad_end) == (begin, end)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "begin", "end"),
    [
        # out = ceil(size / stride), total = (out - 1) * stride + F - size, the odd cell at the end
        (5, 3, 1, 1, 1, 1),
        (5, 2, 1, 1, 0, 1),
        (5, 3, 2, 1, 1, 1),
        (6, 3, 2, 1, 0, 1),
        (8, 5, 3, 1, 1, 2),
        (7, 3, 1, 2, 2, 2),
        (5, 1, 2, 1, 0, 0),
        (6, 1, 2, 1, 0, 0),
        (224, 7, 2, 1, 2, 3),
    ],
)
def test_same_is_that_of_tensorflow(size, kernel, stride, dilation, begin, end):
    shapes = (1, 1, size), (1, 1, kernel)
    parameters = {"stride": stride, "dilation": dilation, "layout": "NCW"}
    same = conv_geometry(*shapes, padding="same", **parameters)
    lower = conv_geometry(*shapes, padding="same_lower", **parameters)
    assert (same.pad_begin, same.pad_end) == ((begin,), (end,))
    assert (lower.pad_begin, lower.pad_end) == ((end,), (begin,))
    assert same.out_size == lower.out_size == (-(-size // stride),)


def test_fit_pad_leaves_same_alone():
    g = conv_geometry((1, 1, 6), (1, 1, 1), stride=2, padding="same", fit="pad", layout="NCW")
    assert (g.pad_end, g.out_size) == ((0,), (3,))


# ---- formulas, by hypothesis --------------------------------------------------------------------

sizes = st.integers(1, 40)
kernels = st.integers(1, 9)
steps = st.integers(1, 7)
pads = st.integers(0, 9)


@given(sizes, kernels, steps, pads, pads, steps)
def test_conv_size_is_that_of_torch(size, kernel, stride, begin, end, dilation):
    room = size + begin + end - dilation * (kernel - 1) - 1
    parameters = {"stride": stride, "padding": (begin, end), "dilation": dilation}
    if room < 0:
        with pytest.raises(ValueError, match="no output"):
            conv_output_size(size, kernel, **parameters)
        return
    out = math.floor(room / stride) + 1
    assert conv_output_size(size, kernel, **parameters) == out
    padded = conv_output_size(size, kernel, **parameters, fit="pad")
    assert padded == math.ceil(room / stride) + 1
    if room % stride:
        with pytest.raises(ValueError, match="do not fit"):
            conv_output_size(size, kernel, **parameters, fit="strict")
    else:
        assert conv_output_size(size, kernel, **parameters, fit="strict") == out


@given(sizes, kernels, steps, pads, steps)
def test_what_the_strict_message_proposes_does_fit(size, kernel, stride, padding, dilation):
    parameters = {"padding": padding, "dilation": dilation, "fit": "strict"}
    try:
        conv_output_size(size, kernel, stride=stride, **parameters)
        assume(False)
    except ValueError as error:
        assume("do not fit" in str(error))
        proposals = str(error).split("nearest that fit: W=")[1]
    widths, smaller, more, *_ = proposals.split(", or ")
    for width in widths.split(" or "):
        conv_output_size(int(width), kernel, stride=stride, **parameters)
    conv_output_size(size, kernel, stride=int(smaller.removeprefix("S=")), **parameters)
    parameters["padding"] = (padding, padding + int(more.split()[0]))
    conv_output_size(size, kernel, stride=stride, **parameters)


@given(sizes, kernels, steps, steps)
def test_same_gives_ceil_of_size_over_stride(size, kernel, stride, dilation):
    parameters = {"stride": stride, "dilation": dilation, "layout": "NCW"}
    g = conv_geometry((1, 1, size), (1, 1, kernel), padding="same", **parameters)
    assert g.out_size == (math.ceil(size / stride),)
    assert 0 <= g.pad_end[0] - g.pad_begin[0] <= 1


@given(sizes, kernels, steps, st.integers(0, 6), steps, st.integers(0, 6))
def test_transposed_size_is_that_of_torch(size, kernel, stride, padding, dilation, extra):
    shapes = (1, 2, size), (2, 3, kernel)
    parameters = {"stride": stride, "padding": padding, "dilation": dilation, "layout": "NCW"}
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
    if extra >= max(stride, dilation) or out < 1:
        with pytest.raises(ValueError, match=r"must be smaller than|leaves no output"):
            conv_transpose_geometry(*shapes, output_padding=extra, **parameters)
        return
    g = conv_transpose_geometry(*shapes, output_padding=extra, **parameters)
    assert g.x_shape == (1, 3, out) and g.y_shape == (1, 2, size) and g.w_shape == (2, 3, kernel)
    if extra < stride:
        assert conv_geometry(g.x_shape, g.w_shape, **parameters) == g


def pool_size_of_torch(size, kernel, stride, begin, end, dilation, ceil_mode):
    """`pooling_output_shape_pad_lr` in ATen/native/Pool.h."""
    room = size + begin + end - dilation * (kernel - 1) - 1 + (stride - 1 if ceil_mode else 0)
    out = room // stride + 1
    return out - 1 if ceil_mode and (out - 1) * stride >= size + begin else out


def windows(size, kernel, stride, begin, dilation, out):
    """The cells of the image that each window of a pooling sees."""
    for o in range(out):
        cells = [o * stride - begin + k * dilation for k in range(kernel)]
        yield [cell for cell in cells if 0 <= cell < size]


@given(sizes, kernels, steps, pads, pads, st.integers(1, 12), st.booleans())
def test_pool_size_is_that_of_torch_and_no_window_is_empty(
    size, kernel, stride, begin, end, dilation, ceil_mode
):
    expected = pool_size_of_torch(size, kernel, stride, begin, end, dilation, ceil_mode)
    too_large = max(begin, end) >= dilation * (kernel - 1) + 1
    empty = not all(windows(size, kernel, stride, begin, dilation, expected))
    parameters = {"stride": stride, "padding": (begin, end), "dilation": dilation}
    if expected < 1 or too_large or empty:
        with pytest.raises(ValueError, match=r"no output|too large"):
            pool_output_size(size, kernel, **parameters, ceil_mode=ceil_mode)
    else:
        assert pool_output_size(size, kernel, **parameters, ceil_mode=ceil_mode) == expected


def test_pool_stride_defaults_to_the_kernel():
    assert pool_geometry(X, (2, 3)).stride == (2, 3)
    assert pool_output_size(9, 3) == 3


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stride", "dilation", "groups", "padding"])
@pytest.mark.parametrize("value", [1.0, True, np.float64(1), np.True_, None, {}, np.ones(2, int)])
def test_numbers_that_are_no_integers(name, value):
    conv_geometry(X, W, **{name: 1})  # 1 == 1.0 == True must not find this answer
    with pytest.raises(TypeError, match=f"conv2d: {name} must be an integer"):
        conv_geometry(X, W, **{name: freeze(value)})


def test_a_float_does_not_find_the_answer_to_an_integer_even_without_freeze():
    conv_geometry(X, W, stride=1)
    with pytest.raises(TypeError, match="stride must be an integer"):
        conv_geometry(X, W, stride=1.0)


@pytest.mark.parametrize("name", ["stride", "dilation", "padding"])
@pytest.mark.parametrize("value", [1.0, True, np.float32(1), "1", None])
def test_sequences_that_hold_no_integers(name, value):
    conv_geometry(X, W, **{name: (1, 1)})
    with pytest.raises(TypeError, match=f"conv2d: {name} must be an integer"):
        conv_geometry(X, W, **{name: freeze([1, value])})


@pytest.mark.parametrize("x_shape", [(2, 6.0, 9, 11), (2, True, 9, 11), (2, None, 9, 11)])
def test_shapes_that_hold_no_integers(x_shape):
    with pytest.raises(TypeError, match=r"number of channels in the shape .* must be an integer"):
        conv_geometry(freeze(x_shape), W)
    with pytest.raises(TypeError, match=r"number of channels in the shape .* must be an integer"):
        conv_geometry(X, freeze((4, x_shape[1], 3, 3)))


def test_a_shape_must_be_a_sequence():
    for call in (
        lambda: conv_geometry(5, W),
        lambda: conv_transpose_geometry(X, None),
        lambda: pool_geometry("abcd", 2),
        lambda: image_sizes(7),
    ):
        with pytest.raises(TypeError, match="must be a tuple of integers"):
            call()
    with pytest.raises(ValueError, match="im2col: x must be"):
        im2col_geometry(5, 3)


def test_numpy_integers_and_lists_are_accepted():
    g = conv_geometry(
        X,
        W,
        stride=freeze([np.int64(2), np.uint8(1)]),
        padding=freeze([[1, 2], (np.int32(3), 4)]),
        dilation=freeze(np.int8(1)),
    )
    assert (g.stride, g.pad_begin, g.pad_end) == ((2, 1), (1, 3), (2, 4))
    assert all(type(n) is int for n in (*g.stride, *g.dilation, *g.pad_begin, *g.out_size))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": (1, -2)}, "stride must be at least 1, got -2"),
        ({"stride": (1, 2, 3)}, r"stride must be one integer or 2 .* got \(1, 2, 3\)"),
        ({"stride": ()}, "stride must be one integer or 2"),
        ({"dilation": 0}, "dilation must be at least 1"),
        ({"dilation": (1,)}, "dilation must be one integer or 2"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"padding": ((0, 0), (0, -3))}, "padding must be at least 0, got -3"),
        ({"padding": (1,)}, r"padding must be an integer, 2 integers or 2 \(begin, end\) pairs"),
        ({"padding": (1, 2, 3, 4)}, "padding must be"),
        ({"padding": ((1, 2), 3)}, "padding must be"),
        ({"padding": ((1, 2, 3), (1, 2, 3))}, "padding must be"),
        ({"padding": ()}, "padding must be"),
        (
            {"padding": "full"},
            "padding='full' is not allowed here; use 'valid', 'same', 'same_lower'",
        ),
        ({"groups": 0}, "groups must be at least 1"),
        ({"fit": "ceil"}, "fit must be one of 'floor', 'strict', 'pad', got 'ceil'"),
        ({"layout": "HWCN"}, "layout must be 'NCW' or .* got 'HWCN'"),
        ({"layout": "NWC", "op": "conv2d_backward"}, "layout must be 'NCHW' or 'NHWC', got 'NWC'"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        conv_geometry(X, W, **parameters)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "groups", "message"),
    [
        (
            (1, 3, 8, 8),
            (4, 5, 3, 3),
            1,
            r"conv2d: x has 3 channels in shape \(1, 3, 8, 8\), but w of shape \(4, 5, 3, 3\) with "
            "groups=1 expects 5",
        ),
        ((1, 6, 8, 8), (4, 6, 3, 3), 2, "groups=2 expects 12"),
        ((1, 6, 8, 8), (4, 2, 3, 3), 3, r"groups=3 must divide the 4 filters of w of shape \(4, 2"),
        ((1, 7, 8, 8), (4, 3, 3, 3), 2, r"7 channels in shape \(1, 7, 8, 8\)"),
        (
            (6, 8, 8),
            W,
            1,
            r"4 dimensions, got x of shape \(6, 8, 8\) and w of shape \(4, 6, 3, 3\)",
        ),
        (X, (6, 3, 3), 1, r"4 dimensions, got x of shape .* and w of shape \(6, 3, 3\)"),
        ((1, 0, 8, 8), (4, 1, 3, 3), 1, "number of channels .* of x must be at least 1, got 0"),
        ((-1, 6, 8, 8), W, 1, "batch size N .* must be at least 0, got -1"),
        (X, (0, 6, 3, 3), 1, "number of filters .* of w must be at least 1, got 0"),
        (X, (4, 6, 3, 0), 1, r"kernel size in the shape \(4, 6, 3, 0\) of w must be at least 1"),
        ((2, 6, 0, 11), W, 1, r"spatial size in the shape \(2, 6, 0, 11\) of x must be at least 1"),
        ((2, 6, 9, 2), W, 1, r"covers 3 cells along W .* has only 2 .* add at least 1 cells"),
        ((2, 6, 1, 9), W, 1, "covers 3 cells along H"),
    ],
)
def test_shapes_that_do_not_suit(x_shape, w_shape, groups, message):
    with pytest.raises(ValueError, match=message):
        conv_geometry(x_shape, w_shape, groups=groups)


def test_messages_carry_the_name_of_the_op():
    with pytest.raises(ValueError, match=r"^conv1d: "):
        conv_geometry((1, 1, 3), (1, 1, 4), layout="NCW")
    with pytest.raises(ValueError, match=r"^conv3d_weight_grad: "):
        conv_geometry((1,) * 5, (2,) * 5, layout="NCDHW", op="conv3d_weight_grad")
    with pytest.raises(ValueError, match=r"^max_pool2d: "):
        pool_geometry(X, 20, op="max_pool2d")
    with pytest.raises(ValueError, match=r"^conv_transpose2d: "):
        conv_transpose_geometry(X, W, layout="NCW", op="conv_transpose2d")


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "parameters", "message"),
    [
        (
            X,
            (4, 2, 3, 3),
            {},
            r"x has 6 channels in shape .* w of shape \(4, 2, 3, 3\) .* expects 4",
        ),
        (X, (6, 2, 3, 3), {"groups": 4}, "groups=4 must divide the 6 channels"),
        (X, (6, 0, 3, 3), {}, "number of filters .* at least 1"),
        (X, (6, 2, 3, 3), {"padding": 20}, "padding 20 \\+ 20 leaves no output along H"),
        (
            X,
            (6, 2, 3, 3),
            {"padding": "same"},
            "padding='same' is not allowed here; use numbers only",
        ),
        (X, (6, 2, 3, 3), {"padding": "valid"}, "padding='valid' is not allowed here"),
        (
            X,
            (6, 2, 3, 3),
            {"output_padding": 1},
            "output_padding=1 must be smaller than the stride 1",
        ),
        (X, (6, 2, 3, 3), {"output_padding": -1, "stride": 2}, "output_padding must be at least 0"),
        (X, (6, 2, 3), {}, "4 dimensions"),
    ],
)
def test_wrong_transposed_shapes(x_shape, w_shape, parameters, message):
    with pytest.raises(ValueError, match=message):
        conv_transpose_geometry(x_shape, w_shape, **parameters)


@pytest.mark.parametrize(
    ("kernel", "parameters", "message"),
    [
        (12, {}, "covers 12 cells along H .* has only 9"),
        (0, {}, "kernel_size must be at least 1"),
        ((2, 2, 2), {}, "kernel_size must be one integer or 2"),
        (3, {"padding": 3}, "padding 3 \\+ 3 is too large for a kernel that covers 3 cells"),
        (3, {"padding": ((0, 3), (0, 0))}, "padding 0 \\+ 3 is too large"),
        (2, {"dilation": 30, "padding": 20, "stride": 1}, "a window would see padding only"),
        (
            2,
            {"padding": "same", "ceil_mode": True},
            "padding='same' is not allowed here; use 'valid'",
        ),
        (2, {"layout": "NCW"}, r"3 dimensions, got x of shape \(2, 6, 9, 11\)"),
        (2, {"stride": 0}, "stride must be at least 1"),
    ],
)
def test_wrong_pooling(kernel, parameters, message):
    with pytest.raises(ValueError, match=message):
        pool_geometry(X, kernel, **parameters)


@pytest.mark.parametrize("huge", [2**60, 2**63, 2**70])
def test_sizes_that_overflow(huge):
    for call in (
        lambda: conv_geometry(X, W, padding=huge),
        lambda: conv_geometry(X, W, padding=((0, huge), (0, 0)), stride=2**50),
        lambda: conv_geometry(X, W, stride=huge),
        lambda: conv_geometry(X, W, dilation=huge),
        lambda: conv_geometry((huge, 6, 9, 11), W),
        lambda: conv_geometry((1, 6, huge, 9), W),
        lambda: conv_geometry(X, (huge, 6, 3, 3)),
        lambda: conv_transpose_geometry(X, (6, 4, 3, 3), stride=huge),
        lambda: conv_transpose_geometry(X, (6, huge, 3, 3)),
        lambda: pool_geometry((huge, 6, 9, 11), 2),
        lambda: pool_geometry(X, huge),
        lambda: pool_geometry(X, 2, stride=huge),
        lambda: im2col_geometry(X, huge, padding=huge),
        lambda: image_sizes((1, huge, 2, 2)),
        lambda: conv_output_size(huge, 3),
        lambda: pool_output_size(7, 3, stride=huge),
    ):
        with pytest.raises(ValueError, match="integer overflow"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: conv_geometry((2**30, 6, 2**20, 2**20), W),
        lambda: conv_geometry(X, (2**31, 6, 2**30, 3), padding=2**30, stride=2**30),
        lambda: conv_geometry((1, 1, 9, 9), (1, 1, 3, 3), padding=2**40),
        lambda: conv_geometry((1, 1, 9, 9), (1, 1, 3, 3), padding=2**40, stride=2**40),
        lambda: conv_geometry((1, 6, 2**25, 2**25), (2**20, 6, 3, 3)),
        lambda: conv_transpose_geometry((1, 6, 2**20, 2**20), (6, 1, 3, 3), stride=2**20),
        lambda: pool_geometry((2**40, 2**20, 5, 5), 2),
        lambda: im2col_geometry((1, 2**10, 2**24, 2**24), 8),
    ],
)
def test_products_that_overflow(call):
    with pytest.raises(ValueError, match="integer overflow"):
        call()


def test_large_sizes_that_do_not_overflow():
    g = conv_geometry((1, 1, 2**29, 2**29), (1, 1, 3, 3))
    assert g.out_size == (2**29 - 2, 2**29 - 2)
    assert conv_output_size(2**59, 3, padding=1) == 2**59


def test_public_sizes_refuse_wrong_numbers():
    with pytest.raises(TypeError, match=r"conv_output_size: stride must be an integer, got 1.5"):
        conv_output_size(7, 3, stride=1.5)
    with pytest.raises(ValueError, match="conv_output_size: size must be at least 1"):
        conv_output_size(0, 3)
    with pytest.raises(ValueError, match="conv_output_size: fit must be"):
        conv_output_size(7, 3, fit="round")
    with pytest.raises(ValueError, match="pool_output_size: padding 3"):
        pool_output_size(7, 3, padding=3)
    with pytest.raises(TypeError, match="same_padding: kernel must be an integer"):
        same_padding(3.0)
