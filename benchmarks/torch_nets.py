"""A net of fastconv's layers as modules of PyTorch: the same arithmetic with the same parameters.

Layers are translated one by one, so that a new net needs no second text here.
"""

import numpy as np
import torch
from torch import nn

from fastconv import layers
from fastconv.nets._googlenet import GoogLeNet


def to_torch(layer, leaves=None):
    """Translate a layer, or a net of layers, into a module with copies of its arrays.

    Parameters
    ----------
    layer : Layer
        What to translate. Channels come first.
    leaves : list, optional
        Gets a pair (layer, module) for each layer that is not made of others, by which parameters
        and gradients of the two nets can be compared.

    Returns
    -------
    torch.nn.Module
        In the mode of the layer, training or evaluation.

    Raises
    ------
    TypeError
        If a kind of layer has no translation.
    """
    leaves = [] if leaves is None else leaves
    for kind, translate in CONTAINERS.items():
        if isinstance(layer, kind):
            return translate(layer, leaves).train(layer.training)
    if type(layer) not in LEAVES:
        raise TypeError(f"{layer!r} has no translation to PyTorch")
    module = LEAVES[type(layer)](layer)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, array in layer._state().items():
            own[name].data = torch.from_numpy(np.array(array))
    leaves.append((layer, module))
    return module.train(layer.training)


# ---- containers ---------------------------------------------------------------------------------


class Residual(nn.Module):
    """The sum of two branches."""

    def __init__(self, body, shortcut, activation):
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x):
        y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return y if self.activation is None else torch.relu_(y)


class Concat(nn.Module):
    """Branches side by side."""

    def __init__(self, branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class WithHeads(nn.Module):
    """GoogLeNet with its auxiliary heads."""

    def __init__(self, stages, aux1, aux2):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.aux1, self.aux2 = aux1, aux2

    def forward(self, x):
        early, middle, late = self.stages
        a = early(x)
        d = middle(a)
        return (late(d), self.aux2(d), self.aux1(a)) if self.training else late(d)


def _sequential(net, leaves):
    return nn.Sequential(*[to_torch(layer, leaves) for layer in net])


def _residual(block, leaves):
    body = to_torch(block.body, leaves)
    shortcut = None if block.shortcut is None else to_torch(block.shortcut, leaves)
    return Residual(body, shortcut, block.activation)


def _concat(block, leaves):
    return Concat([to_torch(branch, leaves) for branch in block.children().values()])


def _googlenet(net, leaves):
    stages = [to_torch(stage, leaves) for stage in net.stages]
    return WithHeads(stages, to_torch(net.aux1, leaves), to_torch(net.aux2, leaves))


CONTAINERS = {
    GoogLeNet: _googlenet,
    layers.Sequential: _sequential,
    layers.Residual: _residual,
    layers.Concat: _concat,
}


# ---- leaves -------------------------------------------------------------------------------------


def _conv(layer):
    OC, CG = layer.params["weight"].shape[:2]
    options = layer.options
    G = options["groups"]
    return nn.utils.skip_init(  # the parameters come from the layer
        nn.Conv2d,
        CG * G,
        OC,
        layer.kernel_size,
        options["stride"],
        options["padding"],
        options["dilation"],
        G,
        "bias" in layer.params,
    )


def _linear(layer):
    OUT, IN = layer.params["weight"].shape
    return nn.utils.skip_init(nn.Linear, IN, OUT, "bias" in layer.params)


def _max_pool(layer):
    o = layer.options
    sizes = (layer.kernel_size, o["stride"], o["padding"], o["dilation"])
    return nn.MaxPool2d(*sizes, ceil_mode=o["ceil_mode"])


def _avg_pool(layer):
    o = layer.options
    sizes = (layer.kernel_size, o["stride"], o["padding"])
    return nn.AvgPool2d(*sizes, o["ceil_mode"], o["count_include_pad"])


def _lp_pool(layer):
    o = layer.options
    return nn.LPPool2d(layer.norm_type, layer.kernel_size, o["stride"], o["ceil_mode"])


def _batch_norm(layer):
    return nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum)


def _lrn(layer):
    return nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)


LEAVES = {
    layers.Conv2d: _conv,
    layers.Linear: _linear,
    layers.MaxPool2d: _max_pool,
    layers.AvgPool2d: _avg_pool,
    layers.LPPool2d: _lp_pool,
    layers.GlobalAvgPool2d: lambda layer: nn.AdaptiveAvgPool2d(1),
    layers.BatchNorm2d: _batch_norm,
    layers.LocalResponseNorm: _lrn,
    layers.Dropout: lambda layer: nn.Dropout(layer.p),
    layers.Flatten: lambda layer: nn.Flatten(),
    layers.ReLU: lambda layer: nn.ReLU(inplace=True),
    layers.ReLU6: lambda layer: nn.ReLU6(inplace=True),
    layers.LeakyReLU: lambda layer: nn.LeakyReLU(layer.negative_slope),
    layers.PReLU: lambda layer: nn.PReLU(layer.params["weight"].size),
    layers.Sigmoid: lambda layer: nn.Sigmoid(),
    layers.Tanh: lambda layer: nn.Tanh(),
    layers.Softmax: lambda layer: nn.Softmax(layer.axis),
}
