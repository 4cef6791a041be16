"""Optimizers: rules that turn gradients into parameter updates (CS231n, "Parameter updates")."""

from math import isfinite, prod, sqrt

import numpy as np

from fastconv import _core

# Numbers that a step treats at a time. A block of parameters, its gradient, the optimizer's memory
# and the temporaries stay in the L2 cache, and no temporary is as large as a parameter.
BLOCK = 16384


class Optimizer:
    """Base class: holds a network and updates its parameters in place.

    A subclass gives ``_update(name, p, g, memory)``, which changes one block of numbers.

    Parameters
    ----------
    net : Layer
        Anything with dicts `params` and `grads` of the same keys.
    lr : float
        Learning rate. May be changed between steps: ``optimizer.lr *= 0.1``.
    memories : int
        Arrays of a parameter's shape that the rule remembers.
    """

    def __init__(self, net, lr, memories):
        self.net = net
        self.lr = _checked("lr", lr)
        self.steps = 0
        self._memories = memories
        self._memory = {}

    def step(self):
        """Update every parameter from its gradient, in place.

        Raises
        ------
        ValueError
            If a gradient has not its parameter's shape, or a parameter cannot be written; none is
            changed then.
        """
        grads = self.net.grads
        for name, p in self.net.params.items():
            self._check(name, p, grads[name])
        self.steps += 1
        for name, p in self.net.params.items():
            if name not in self._memory:
                self._memory[name] = [np.zeros_like(p) for _ in range(self._memories)]
            self._step_of(p, grads[name], *self._memory[name])

    def _check(self, name, p, g):
        op = f"{type(self).__name__}.step"
        shape = getattr(g, "shape", None)
        if shape != p.shape:
            raise ValueError(f"{op}: {name} has shape {p.shape}, its gradient {shape}")
        if not p.flags.writeable:
            raise ValueError(f"{op}: {name} is read-only, it cannot be updated in place")
        if name in self._memory and any(m.shape != p.shape for m in self._memory[name]):
            raise ValueError(
                f"{op}: {name} had another shape than {p.shape} in the steps before; make a new "
                "optimizer"
            )

    def _step_of(self, *arrays):
        for block in _blocks(*arrays):
            self._update(*block)

    def _update(self, p, g, *memory):
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent, plain or with momentum.

    ``v = momentum * v + g``, then ``p -= lr * v``, or with Nesterov's momentum
    ``p -= lr * (g + momentum * v)``; as in PyTorch.

    Parameters
    ----------
    net : Layer
        The network to train.
    lr : float
        Learning rate.
    momentum : float
        Share of the last update direction that stays, at least 0 and below 1; typically 0.9.
    weight_decay : float
        L2 regularisation: adds ``weight_decay * p`` to the gradient.
    nesterov : bool
        Use Nesterov's momentum; needs ``momentum > 0``.

    References
    ----------
    CS231n, "Neural Networks Part 3", sections "SGD and bells and whistles".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> from fastconv.training import SGD
    >>> net = Linear(2, 1, rng=0)
    >>> optimizer = SGD(net, lr=0.1, momentum=0.9)
    >>> before = net.params["bias"].copy()
    >>> _ = net.forward(np.ones((1, 2), np.float32))
    >>> _ = net.backward(np.ones((1, 1), np.float32))
    >>> optimizer.step()
    >>> net.params["bias"] - before
    array([-0.1], dtype=float32)
    """

    def __init__(self, net, lr, *, momentum=0.0, weight_decay=0.0, nesterov=False):
        self.momentum = _checked("momentum", momentum, below=1)
        self.weight_decay = _checked("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0, typically 0.9")
        super().__init__(net, lr, memories=1 if self.momentum else 0)

    def _step_of(self, p, g, v=None):
        # One pass over all arrays in C, where they are what it takes.
        if all(_fits_c(a, p.dtype) for a in (p, g)) and (v is None or v.flags.c_contiguous):
            v = None if v is None else v.reshape(-1)
            rule = self.lr, self.momentum, self.weight_decay, self.nesterov
            _core.sgd_step(p.reshape(-1), g.reshape(-1), v, *rule)
        else:
            super()._step_of(*((p, g) if v is None else (p, g, v)))

    def _update(self, p, g, v=None):
        if self.weight_decay:
            g = g + self.weight_decay * p
        if v is not None:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g


class Adam(Optimizer):
    """Adam: momentum, with each number's step scaled by the size of its recent gradients.

    ``m = beta1 * m + (1 - beta1) * g``; ``v = beta2 * v + (1 - beta2) * g**2``; then with the bias
    corrections ``m' = m / (1 - beta1**t)`` and ``v' = v / (1 - beta2**t)`` of step t
    ``p -= lr * m' / (sqrt(v') + eps)``.

    Parameters
    ----------
    net : Layer
        The network to train.
    lr : float
        Learning rate, about the change of each number in a step.
    betas : (float, float)
        Shares of the old averages that stay, each at least 0 and below 1.
    eps : float
        Keeps the division finite where gradients vanish.
    weight_decay : float
        L2 regularisation: adds ``weight_decay * p`` to the gradient.

    References
    ----------
    D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1;
    CS231n, "Neural Networks Part 3", section "Per-parameter adaptive learning rate methods".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> from fastconv.training import Adam
    >>> net = Linear(2, 1, rng=0)
    >>> optimizer = Adam(net, lr=0.01)
    >>> _ = net.forward(np.ones((1, 2), np.float32))
    >>> _ = net.backward(np.ones((1, 1), np.float32))
    >>> optimizer.step()
    >>> net.params["bias"]
    array([-0.01], dtype=float32)
    """

    def __init__(self, net, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas={betas!r}, expected two numbers")
        self.betas = tuple(_checked("betas", beta, below=1) for beta in betas)
        self.eps = _checked("eps", eps)
        self.weight_decay = _checked("weight_decay", weight_decay)
        super().__init__(net, lr, memories=2)

    def _update(self, p, g, m, v):
        beta1, beta2 = self.betas
        if self.weight_decay:
            g = g + self.weight_decay * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g * g
        scale = np.sqrt(v)
        scale *= 1 / sqrt(1 - beta2**self.steps)
        scale += self.eps
        np.divide(m, scale, out=scale)
        scale *= self.lr / (1 - beta1**self.steps)
        p -= scale


def _fits_c(array, dtype):
    return (
        array.flags.c_contiguous
        and array.flags.aligned
        and array.dtype == dtype
        and dtype in (np.float32, np.float64)
        and dtype.isnative
    )


def _blocks(*arrays):
    """Cut arrays of one shape into small pieces in step; writing to a piece writes to its array."""
    if not all(a.flags.c_contiguous for a in arrays):
        yield arrays
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, prod(arrays[0].shape), BLOCK):
        yield [a[start : start + BLOCK] for a in flat]


def _checked(name, value, below=None):
    """Return a hyperparameter as a float, or raise an error that says what it may be."""
    allowed = "0 or more" if below is None else f"at least 0 and below {below}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}={value!r}, expected a number, {allowed}")
    value = float(value)
    if not isfinite(value) or value < 0 or (below is not None and value >= below):
        raise ValueError(f"{name}={value!r}, expected a number, {allowed}")
    return value
