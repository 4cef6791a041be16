"""LeNet-5 (CS231n, "Convolutional Networks", "Case studies")."""

import numpy as np

from fastconv.nets._build import build


def lenet5(*, classes=10, dtype=np.float32, rng=None):
    """LeNet-5, the first successful ConvNet: it read digits on cheques. 61,706 parameters.

    As it is usually built today: its third layer sees all channels, not a table of chosen ones,
    its pooling takes plain means, and scores come from a fully-connected layer instead of radial
    basis functions.

    Parameters
    ----------
    classes : int
        Number of scores.
    dtype : {numpy.float32, numpy.float64}
        Type of the parameters; images must have the same.
    rng : None, int or numpy.random.Generator
        Source of the initial weights.

    Returns
    -------
    Net
        For images of shape (1, 32, 32).

    References
    ----------
    Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE, 1998.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.lenet5(rng=0)
    >>> net(np.zeros((2, 1, 32, 32), np.float32)).shape
    (2, 10)
    >>> sum(p.size for p in net.params.values())
    61706
    """
    return build(
        "INPUT(1x32x32) -> CONV(6, 5x5, p0) -> TANH -> AVGPOOL -> CONV(16, 5x5, p0) -> TANH -> "
        "AVGPOOL -> CONV(120, 5x5, p0) -> TANH -> FC(84) -> TANH -> FC",
        classes=classes,
        dtype=dtype,
        rng=rng,
    )
