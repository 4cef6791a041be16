"""Chainer: convolution and what surrounds it in a net, in 1-D to 3-D.

Replaced is the NumPy code, not the graph: functions keep what they retain, and double
backpropagation runs through the replaced functions, too. These are the convolutions
(``convolution_2d``/``nd``, depthwise, dilated, grouped, ``cover_all``), the deconvolutions, the
locally connected layer, max and average pooling, each with its gradients, local response
normalization, batch normalization in training, ``linear``, ``relu``, and
``chainer.utils.conv.im2col_cpu`` and ``col2im_cpu`` with their n-dimensional relatives, on which
unpooling and upsampling are built.

Traps of its conventions: pooling covers everything by default (``cover_all=True``: the size is
rounded up, and a window may even start behind the image); ``indexes`` of max pooling count within
the window; the response norm's alpha is not divided by n, and its window is odd. A convolution's
result has its channels last in memory, one with groups has them first: so it is here.

The original still runs for float16 and mixed dtypes, CuPy, ChainerX and iDeep arrays, empty
batches, windows that see padding alone, and graphs recorded by ``static_graph``. Three things
differ: where the original hands out a slice of a padded array, the result is an array of its own;
the gradient of ReLU is 0 where the original multiplies an infinite one by 0; and gradients of
average pooling with ``pad_value=None`` are no longer divided in place.
"""

from fastconv.backends._backend import Backend, Replacement
from fastconv.backends.chainer import _conv, _layers, _pool

_CONNECTION = "chainer.functions.connection."
_POOLING = "chainer.functions.pooling."


def backend() -> Backend:
    """Chainer 7, from a checkout or an installed package."""
    return Backend(
        package="chainer",
        needs="Chainer 7.8.1 (pip install chainer==7.8.1)",
        replacements=(*_columns(), *_connections(), *_poolings(), *_others()),
    )


def _columns():
    functions = _conv.im2col_cpu, _conv.col2im_cpu, _conv.im2col_nd_cpu, _conv.col2im_nd_cpu
    for function in functions:
        module = "conv_nd" if "_nd_" in function.__name__ else "conv"
        path = f"chainer.utils.{module}.{function.__name__}"
        yield Replacement(path, function, everywhere=True)


def _connections():
    two, local = "convolution_2d.Convolution2D", "local_convolution_2d.LocalConvolution2DFunction."
    for path, function in (
        (two + "Function._forward_cpu_core", _conv.convolution_2d),
        (two + "Function._forward_grouped_convolution", _conv.convolution_2d),
        (two + "GradW._forward_cpu_core", _conv.weight_gradient_2d),
        (two + "GradW._forward_grouped_convolution", _conv.weight_gradient_2d),
        ("deconvolution_2d.Deconvolution2DFunction._forward_cpu_core", _conv.deconvolution_2d),
        (
            "deconvolution_2d.Deconvolution2DFunction._forward_grouped_convolution",
            _conv.deconvolution_2d,
        ),
        ("convolution_nd.ConvolutionND._forward_xp", _conv.convolution_nd),
        ("convolution_nd.ConvolutionNDGradW._forward_xp", _conv.weight_gradient_nd),
        ("deconvolution_nd.DeconvolutionND._forward_xp", _conv.deconvolution_nd),
        (local + "forward", _layers.local_forward),
        (local + "backward", _layers.local_backward),
        ("linear.LinearFunction.forward", _layers.linear_forward),
        ("linear.LinearGradData.forward", _layers.linear_input_gradient),
        ("linear.LinearGradWeight.forward", _layers.linear_weight_gradient),
    ):
        yield Replacement(_CONNECTION + path, function)


def _poolings():
    for path, function in (
        ("max_pooling_nd.MaxPoolingND", _pool.max_pooling),
        ("max_pooling_nd.MaxPoolingNDGrad", _pool.max_pooling_gradient),
        ("max_pooling_nd.MaxPoolingNDWithIndexes", _pool.max_pooling_with_indexes),
        ("average_pooling_2d.AveragePooling2D", _pool.average_pooling_2d),
        ("average_pooling_2d.AveragePooling2DGrad", _pool.average_pooling_2d_gradient),
        ("average_pooling_nd.AveragePoolingND", _pool.average_pooling_nd),
        ("average_pooling_nd.AveragePoolingNDGrad", _pool.average_pooling_nd_gradient),
    ):
        yield Replacement(f"{_POOLING}{path}.forward_cpu", function)


def _others():
    response = "normalization.local_response_normalization.LocalResponseNormalization"
    batch = "normalization.batch_normalization.GeneralBatchNormalizationImpl"
    for path, function in (
        (response + ".forward_cpu", _layers.response_norm),
        (response + "Grad.forward_cpu", _layers.response_norm_gradient),
        (batch + ".forward", _layers.batch_norm),
        (batch + ".backward", _layers.batch_norm_gradient),
        ("activation.relu.ReLU.forward_cpu", _layers.relu),
        ("activation.relu.ReLUGrad2.forward_cpu", _layers.relu_gradient),
    ):
        yield Replacement("chainer.functions." + path, function)
