"""ResNets and GoogLeNet once more, written from the papers' tables as functions of PyTorch.

They know nothing of fastconv's nets but the names of torchvision's state dictionaries: the test
that both compute the same says that the names stand for the right arrays, too.
"""

import torch
import torch.nn.functional as T


def conv(state, name, x, stride=1):
    w = state[f"{name}.weight"]
    return T.conv2d(x, w, state.get(f"{name}.bias"), stride, w.shape[2] // 2)


def norm(state, name, x, eps=1e-5):
    names = ("running_mean", "running_var", "weight", "bias")
    return T.batch_norm(x, *(state[f"{name}.{part}"] for part in names), eps=eps)


def linear(state, name, x):
    return T.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def resnet(state, x, depths, convolutions):
    """A ResNet in evaluation mode; `convolutions` are the convolutions in each block."""
    x = T.relu(norm(state, "bn1", conv(state, "conv1", x, 2)))
    x = T.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            block = f"layer{stage}.{i}"
            stride = 2 if i == 0 and stage > 1 else 1
            shortcut = x
            if f"{block}.downsample.0.weight" in state:
                shortcut = conv(state, f"{block}.downsample.0", x, stride)
                shortcut = norm(state, f"{block}.downsample.1", shortcut)
            for k in range(1, convolutions + 1):
                strided = k == convolutions - 1  # the 3x3 in the middle, or the first of two
                x = conv(state, f"{block}.conv{k}", x, stride if strided else 1)
                x = norm(state, f"{block}.bn{k}", x)
                x = T.relu(x + shortcut if k == convolutions else x)
    return linear(state, "fc", x.mean((2, 3)))


def googlenet(state, x):
    """GoogLeNet in evaluation mode."""

    def basic(name, x, stride=1):
        return T.relu(norm(state, f"{name}.bn", conv(state, f"{name}.conv", x, stride), 1e-3))

    def pool(x, window):
        return T.max_pool2d(x, window, 2, ceil_mode=True)

    def inceptions(x, *names):
        for name in names:
            block = f"inception{name}"
            x = torch.cat(
                [
                    basic(f"{block}.branch1", x),
                    basic(f"{block}.branch2.1", basic(f"{block}.branch2.0", x)),
                    basic(f"{block}.branch3.1", basic(f"{block}.branch3.0", x)),
                    basic(f"{block}.branch4.1", T.max_pool2d(x, 3, 1, 1)),
                ],
                1,
            )
        return x

    x = pool(basic("conv1", x, 2), 3)
    x = pool(basic("conv3", basic("conv2", x)), 3)
    x = pool(inceptions(x, "3a", "3b"), 3)
    x = pool(inceptions(x, "4a", "4b", "4c", "4d", "4e"), 2)
    return linear(state, "fc", inceptions(x, "5a", "5b").mean((2, 3)))
