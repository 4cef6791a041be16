"""Types of the functions; a test compares names, order and defaults with the functions."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fastconv.functional.prepared import PreparedConv2d

Real = TypeVar("Real", np.float32, np.float64)
Gradients: TypeAlias = tuple[NDArray[Real] | None, NDArray[Real] | None, NDArray[Real] | None]
Steps: TypeAlias = int | Sequence[int]
Crop: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]]
Padding: TypeAlias = Crop | Literal["valid", "same", "same_lower"]
Layout1d: TypeAlias = Literal["NCW", "NWC"]
Layout2d: TypeAlias = Literal["NCHW", "NHWC"]
Layout3d: TypeAlias = Literal["NCDHW", "NDHWC"]
Layout: TypeAlias = Layout1d | Layout2d | Layout3d
Fit: TypeAlias = Literal["floor", "strict", "pad"]
Algo: TypeAlias = Literal["auto", "gemm", "im2col", "naive"]

__all__ = [
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "batch_norm",
    "batch_norm_backward",
    "col2im",
    "conv1d",
    "conv1d_backward",
    "conv1d_input_grad",
    "conv1d_weight_grad",
    "conv2d",
    "conv2d_backward",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "conv3d",
    "conv3d_backward",
    "conv3d_input_grad",
    "conv3d_weight_grad",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "dropout",
    "dropout_backward",
    "fold_batch_norm",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "im2col",
    "l2_penalty",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "local_conv2d",
    "local_conv2d_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
    "max_pool_window",
    "max_pool_window_backward",
    "prelu",
    "prelu_backward",
    "prepare_conv2d",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_loss",
    "svm_loss",
    "tanh",
    "tanh_backward",
]

def avg_pool1d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    count_include_pad: bool = True,
    layout: Layout1d = "NCW",
) -> NDArray[Real]: ...
def avg_pool1d_backward(
    dy: NDArray[Real],
    x_shape: Sequence[int],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    count_include_pad: bool = True,
    layout: Layout1d = "NCW",
) -> NDArray[Real]: ...
def avg_pool2d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    count_include_pad: bool = True,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def avg_pool2d_backward(
    dy: NDArray[Real],
    x_shape: Sequence[int],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    count_include_pad: bool = True,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def avg_pool3d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    count_include_pad: bool = True,
    layout: Layout3d = "NCDHW",
) -> NDArray[Real]: ...
def avg_pool3d_backward(
    dy: NDArray[Real],
    x_shape: Sequence[int],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    count_include_pad: bool = True,
    layout: Layout3d = "NCDHW",
) -> NDArray[Real]: ...
@overload
def batch_norm(
    x: NDArray[Real],
    weight: NDArray[Real] | None = None,
    bias: NDArray[Real] | None = None,
    running_mean: NDArray[Real] | None = None,
    running_var: NDArray[Real] | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: Layout = "NCHW",
    activation: Literal["relu", "relu6"] | None = None,
    return_statistics: Literal[False] = False,
) -> NDArray[Real]: ...
@overload
def batch_norm(
    x: NDArray[Real],
    weight: NDArray[Real] | None = None,
    bias: NDArray[Real] | None = None,
    running_mean: NDArray[Real] | None = None,
    running_var: NDArray[Real] | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: Layout = "NCHW",
    activation: Literal["relu", "relu6"] | None = None,
    return_statistics: Literal[True],
) -> tuple[NDArray[Real], NDArray[Real], NDArray[Real]]: ...
def batch_norm_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    weight: NDArray[Real] | None,
    mean: NDArray[Real],
    var: NDArray[Real],
    *,
    training: bool = True,
    eps: float = 1e-5,
    layout: Layout = "NCHW",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def col2im(
    cols: NDArray[Real],
    x_shape: Sequence[int],
    kernel_size: Steps,
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
) -> NDArray[Real]: ...
def conv1d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout1d = "NCW",
    activation: Literal["relu", "relu6"] | None = None,
    fit: Fit = "floor",
    algo: Algo = "auto",
    out: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def conv1d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout1d = "NCW",
    fit: Fit = "floor",
    algo: Algo = "auto",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def conv1d_input_grad(
    dy: NDArray[Real],
    w: NDArray[Real],
    x_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout1d = "NCW",
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> NDArray[Real]: ...
def conv1d_weight_grad(
    dy: NDArray[Real],
    x: NDArray[Real],
    w_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout1d = "NCW",
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> NDArray[Real]: ...
def conv2d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    activation: Literal["relu", "relu6"] | None = None,
    fit: Fit = "floor",
    algo: Algo = "auto",
    out: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def conv2d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    fit: Fit = "floor",
    algo: Algo = "auto",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def conv2d_input_grad(
    dy: NDArray[Real],
    w: NDArray[Real],
    x_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> NDArray[Real]: ...
def conv2d_weight_grad(
    dy: NDArray[Real],
    x: NDArray[Real],
    w_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> NDArray[Real]: ...
def conv3d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout3d = "NCDHW",
    activation: Literal["relu", "relu6"] | None = None,
    fit: Fit = "floor",
    algo: Algo = "auto",
    out: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def conv3d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout3d = "NCDHW",
    fit: Fit = "floor",
    algo: Algo = "auto",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def conv3d_input_grad(
    dy: NDArray[Real],
    w: NDArray[Real],
    x_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout3d = "NCDHW",
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> NDArray[Real]: ...
def conv3d_weight_grad(
    dy: NDArray[Real],
    x: NDArray[Real],
    w_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout3d = "NCDHW",
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> NDArray[Real]: ...
def conv_transpose1d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Crop = 0,
    output_padding: Steps = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout1d = "NCW",
    out: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def conv_transpose1d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Crop = 0,
    output_padding: Steps = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout1d = "NCW",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def conv_transpose2d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Crop = 0,
    output_padding: Steps = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    out: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def conv_transpose2d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Crop = 0,
    output_padding: Steps = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def conv_transpose3d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Crop = 0,
    output_padding: Steps = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout3d = "NCDHW",
    out: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def conv_transpose3d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Crop = 0,
    output_padding: Steps = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout3d = "NCDHW",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def dropout(
    x: NDArray[Real],
    p: float = 0.5,
    *,
    rng: int | np.random.Generator | None = None,
) -> tuple[NDArray[Real], NDArray[np.bool_]]: ...
def dropout_backward(
    dy: NDArray[Real],
    kept: NDArray[np.bool_],
    p: float = 0.5,
) -> NDArray[Real]: ...
def fold_batch_norm(
    w: NDArray[Real],
    b: NDArray[Real] | None,
    gamma: NDArray[Real] | None,
    beta: NDArray[Real] | None,
    mean: NDArray[Real],
    var: NDArray[Real],
    eps: float = 1e-5,
) -> tuple[NDArray[Real], NDArray[Real]]: ...
def global_avg_pool2d(
    x: NDArray[Real],
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def global_avg_pool2d_backward(
    dy: NDArray[Real],
    x_shape: Sequence[int],
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def global_max_pool2d(
    x: NDArray[Real],
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def global_max_pool2d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def im2col(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
) -> NDArray[Real]: ...
def l2_penalty(
    w: NDArray[Real],
    strength: float,
) -> tuple[float, NDArray[Real]]: ...
def leaky_relu(
    x: NDArray[Real],
    negative_slope: float = 0.01,
) -> NDArray[Real]: ...
def leaky_relu_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    negative_slope: float = 0.01,
) -> NDArray[Real]: ...
def linear(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
) -> NDArray[Real]: ...
def linear_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def local_conv2d(
    x: NDArray[Real],
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def local_conv2d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    layout: Layout2d = "NCHW",
    needs: Iterable[Literal["x", "w", "b"]] = ("x", "w", "b"),
) -> Gradients[Real]: ...
def local_response_norm(
    x: NDArray[Real],
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def local_response_norm_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def lp_pool2d(
    x: NDArray[Real],
    norm_type: float,
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def lp_pool2d_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    y: NDArray[Real],
    norm_type: float,
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
@overload
def max_pool1d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout1d = "NCW",
    return_indices: Literal[False] = False,
) -> NDArray[Real]: ...
@overload
def max_pool1d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout1d = "NCW",
    return_indices: Literal[True],
) -> tuple[NDArray[Real], NDArray[np.int64]]: ...
def max_pool1d_backward(
    dy: NDArray[Real],
    indices: NDArray[np.int64],
    x_shape: Sequence[int],
    *,
    layout: Layout1d = "NCW",
) -> NDArray[Real]: ...
@overload
def max_pool2d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout2d = "NCHW",
    return_indices: Literal[False] = False,
) -> NDArray[Real]: ...
@overload
def max_pool2d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout2d = "NCHW",
    return_indices: Literal[True],
) -> tuple[NDArray[Real], NDArray[np.int64]]: ...
def max_pool2d_backward(
    dy: NDArray[Real],
    indices: NDArray[np.int64],
    x_shape: Sequence[int],
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
@overload
def max_pool3d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout3d = "NCDHW",
    return_indices: Literal[False] = False,
) -> NDArray[Real]: ...
@overload
def max_pool3d(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout3d = "NCDHW",
    return_indices: Literal[True],
) -> tuple[NDArray[Real], NDArray[np.int64]]: ...
def max_pool3d_backward(
    dy: NDArray[Real],
    indices: NDArray[np.int64],
    x_shape: Sequence[int],
    *,
    layout: Layout3d = "NCDHW",
) -> NDArray[Real]: ...
def max_pool_window(
    x: NDArray[Real],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout = "NCHW",
) -> tuple[NDArray[Real], NDArray[np.uint8] | NDArray[np.int32]]: ...
def max_pool_window_backward(
    dy: NDArray[Real],
    offsets: NDArray[np.uint8] | NDArray[np.int32],
    x_shape: Sequence[int],
    kernel_size: Steps,
    *,
    stride: Steps | None = None,
    padding: Padding = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
    layout: Layout = "NCHW",
) -> NDArray[Real]: ...
def prelu(
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    layout: Layout2d = "NCHW",
) -> NDArray[Real]: ...
def prelu_backward(
    dy: NDArray[Real],
    x: NDArray[Real],
    w: NDArray[Real],
    *,
    layout: Layout2d = "NCHW",
    needs: Iterable[Literal["x", "w"]] = ("x", "w"),
) -> tuple[NDArray[Real] | None, NDArray[Real] | None]: ...
def prepare_conv2d(
    w: NDArray[Real],
    b: NDArray[Real] | None = None,
    *,
    x_shape: Sequence[int] | None = None,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    activation: Literal["relu", "relu6"] | None = None,
    fit: Fit = "floor",
    algo: Algo = "auto",
) -> PreparedConv2d[Real]: ...
def relu(
    x: NDArray[Real],
) -> NDArray[Real]: ...
def relu6(
    x: NDArray[Real],
) -> NDArray[Real]: ...
def relu6_backward(
    dy: NDArray[Real],
    x_or_y: NDArray[Real],
) -> NDArray[Real]: ...
def relu_backward(
    dy: NDArray[Real],
    x_or_y: NDArray[Real],
) -> NDArray[Real]: ...
def sigmoid(
    x: NDArray[Real],
) -> NDArray[Real]: ...
def sigmoid_backward(
    dy: NDArray[Real],
    y: NDArray[Real],
) -> NDArray[Real]: ...
def softmax(
    x: NDArray[Real],
    *,
    axis: int = 1,
) -> NDArray[Real]: ...
def softmax_backward(
    dy: NDArray[Real],
    y: NDArray[Real],
    *,
    axis: int = 1,
) -> NDArray[Real]: ...
def softmax_loss(
    scores: NDArray[Real],
    y: NDArray[np.integer[Any]],
) -> tuple[float, NDArray[Real]]: ...
def svm_loss(
    scores: NDArray[Real],
    y: NDArray[np.integer[Any]],
    delta: float = 1.0,
) -> tuple[float, NDArray[Real]]: ...
def tanh(
    x: NDArray[Real],
) -> NDArray[Real]: ...
def tanh_backward(
    dy: NDArray[Real],
    y: NDArray[Real],
) -> NDArray[Real]: ...
