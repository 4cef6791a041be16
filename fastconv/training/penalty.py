"""L2 regularization of a whole net."""

from fastconv import _checks
from fastconv.functional import l2_penalty


def add_l2_penalty(net, strength):
    """Add the gradient of the L2 penalty to the net's gradients; return the penalty.

    ``strength / 2 * sum of w^2`` over all weights: parameters called "weight" with two axes or
    more, so neither biases nor the scales of a batch normalization. To be called between `backward`
    and the optimizer's step; `fit` does so with ``l2=strength``. Optimizers have `weight_decay`,
    which has the same gradient for all parameters, but tells no loss.

    Parameters
    ----------
    net : Layer
        Anything with dicts `params` and `grads` of the same keys.
    strength : float
        How much the penalty counts beside the loss; at least 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `strength` is negative or not finite.

    References
    ----------
    CS231n, "Linear classification", section "Regularization": the full loss is the data loss plus
    the regularization loss.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> from fastconv.training import add_l2_penalty
    >>> net = Linear(2, 1)
    >>> net.load_state_dict({"weight": [[3.0, 4.0]], "bias": [7.0]})
    >>> add_l2_penalty(net, 0.5)
    6.25
    >>> net.grads["weight"], net.grads["bias"]
    (array([[1.5, 2. ]], dtype=float32), array([0.], dtype=float32))
    """
    strength = _checks.check_strength("add_l2_penalty", strength)
    grads, total = net.grads, 0.0
    for name, p in net.params.items():
        if name.rpartition(".")[2] == "weight" and p.ndim > 1:
            penalty, dp = l2_penalty(p, strength)
            total += penalty
            gradient = grads[name]  # the merged dict of a container takes no new arrays
            gradient += dp
    return total
