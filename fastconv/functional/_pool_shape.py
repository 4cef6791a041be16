"""The checked shapes of a pooling, made once for each set of arguments."""

from functools import lru_cache

from fastconv import _core, _geometry
from fastconv._geometry import freeze


@lru_cache(maxsize=4096, typed=True)
def _cached(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout):
    return _core.Pool(
        _geometry.pool_geometry(
            x_shape,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
            fit=fit,
            layout=layout,
            op=op,
        )
    )


def pool_shape(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout):
    """Shapes of a pooling, from arguments as the user gave them; x_shape is a tuple of int."""
    return _cached(
        op,
        x_shape,
        freeze(kernel_size),
        freeze(stride),
        freeze(padding),
        freeze(dilation),
        bool(ceil_mode),
        freeze(fit),
        freeze(layout),
    )
