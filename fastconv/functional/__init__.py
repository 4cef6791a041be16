"""Arrays in, arrays out: the layers of a convolutional network as functions, in compiled code."""

from fastconv.functional.activation import (
    leaky_relu,
    leaky_relu_backward,
    prelu,
    prelu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastconv.functional.avg_pool import (
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool3d,
    avg_pool3d_backward,
)
from fastconv.functional.batch_norm import (
    batch_norm,
    batch_norm_backward,
    fold_batch_norm,
)
from fastconv.functional.columns import (
    col2im,
    im2col,
)
from fastconv.functional.conv import (
    conv1d,
    conv1d_backward,
    conv1d_input_grad,
    conv1d_weight_grad,
    conv2d,
    conv2d_backward,
    conv2d_input_grad,
    conv2d_weight_grad,
    conv3d,
    conv3d_backward,
    conv3d_input_grad,
    conv3d_weight_grad,
)
from fastconv.functional.conv_transpose import (
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose3d,
    conv_transpose3d_backward,
)
from fastconv.functional.dropout import (
    dropout,
    dropout_backward,
)
from fastconv.functional.fully_connected import (
    linear,
    linear_backward,
)
from fastconv.functional.global_pool import (
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
)
from fastconv.functional.local_conv import (
    local_conv2d,
    local_conv2d_backward,
)
from fastconv.functional.local_response_norm import (
    local_response_norm,
    local_response_norm_backward,
)
from fastconv.functional.loss import (
    l2_penalty,
    softmax_loss,
    svm_loss,
)
from fastconv.functional.lp_pool import (
    lp_pool2d,
    lp_pool2d_backward,
)
from fastconv.functional.max_pool import (
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool3d,
    max_pool3d_backward,
    max_pool_window,
    max_pool_window_backward,
)
from fastconv.functional.prepared import (
    prepare_conv2d,
)

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
