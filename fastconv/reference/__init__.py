"""Every function of `fastconv.functional` as readable loops in NumPy: the oracle and the textbook.

Names, arguments, shapes and errors are those of the fast functions; only the speed differs. Sums
are taken in float64 and the result is rounded once to the dtype of the arrays. Nothing of the fast
code is used but the shape rules of `fastconv._geometry` and the checks of `fastconv._checks`.

There is one generic implementation per family, for any number of spatial dimensions, and thin
`...1d`, `...2d` and `...3d` functions around it. All of them loop over the cells of the kernel, the
*taps*. The tap (kh, kw) meets, in output (oh, ow), the cell

    (oh * SH + kh * DH, ow * SW + kw * DW)

of the padded image. For all outputs at once that is one strided slice of it, `_windows.seen_by`.

The formulas follow CS231n, "Convolutional Networks": https://cs231n.github.io/convolutional-networks/

Letters: N images, C channels, OC filters, D H W sizes of an image, KH KW of a kernel, OH OW of an
output, S* strides, P* paddings, D* dilations; d<name> is the gradient of the loss for <name>.
"""

from fastconv.reference.activation import (
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
from fastconv.reference.avg_pool import (
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool3d,
    avg_pool3d_backward,
)
from fastconv.reference.batch_norm import (
    batch_norm,
    batch_norm_backward,
    fold_batch_norm,
)
from fastconv.reference.columns import (
    col2im,
    im2col,
)
from fastconv.reference.conv import (
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
from fastconv.reference.conv_transpose import (
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose3d,
    conv_transpose3d_backward,
)
from fastconv.reference.dropout import (
    dropout,
    dropout_backward,
)
from fastconv.reference.fully_connected import (
    linear,
    linear_backward,
)
from fastconv.reference.global_pool import (
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
)
from fastconv.reference.local_conv import (
    local_conv2d,
    local_conv2d_backward,
)
from fastconv.reference.local_response_norm import (
    local_response_norm,
    local_response_norm_backward,
)
from fastconv.reference.loss import (
    l2_penalty,
    softmax_loss,
    svm_loss,
)
from fastconv.reference.lp_pool import (
    lp_pool2d,
    lp_pool2d_backward,
)
from fastconv.reference.max_pool import (
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool3d,
    max_pool3d_backward,
    max_pool_window,
    max_pool_window_backward,
)
from fastconv.reference.prepared import (
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
