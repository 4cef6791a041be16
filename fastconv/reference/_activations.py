"""What `activation=` of a convolution or a normalization does to its result."""

import numpy as np

ACTIVATIONS = {
    None: lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: np.minimum(np.maximum(y, 0), 6),
}
