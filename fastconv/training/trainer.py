"""The training loop, and evaluation in batches."""

import operator
from dataclasses import dataclass

import numpy as np

from fastconv import _checks
from fastconv.functional import softmax_loss
from fastconv.training.penalty import add_l2_penalty


@dataclass(frozen=True)
class Step:
    """Where the training stands, for `on_step`.

    Attributes
    ----------
    epoch, epochs : int
        Running epoch, from 1, and how many there will be.
    step, steps : int
        Step of the epoch, from 1, and how many it has.
    loss : float
        Loss of this step's batch.
    accuracy : float or None
        Validation accuracy after the last complete epoch, this one included.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float | None


def fit(
    net,
    x,
    y,
    *,
    epochs,
    batch_size,
    optimizer,
    rng=None,
    loss=softmax_loss,
    l2=0.0,
    augment=None,
    on_step=None,
    validation=None,
):
    """Train a network on labelled images, in shuffled mini-batches.

    Parameters
    ----------
    net : Layer
        The network, usually a `Sequential`; trained in place.
    x : ndarray, shape (N, ...)
        Images.
    y : ndarray of int, shape (N,)
        The label of each image.
    epochs : int
        How many times to go through all images.
    batch_size : int
        Images per step; the last step of an epoch takes what is left.
    optimizer : Optimizer
        `SGD` or `Adam` of `net`.
    rng : None, int or numpy.random.Generator
        Source of the order of the images, and of `augment`.
    loss : callable
        ``loss(scores, y) -> (loss, dscores)``, for instance `softmax_loss` or `svm_loss`.
    l2 : float, optional
        Strength of L2 regularization: the loss of a step has `add_l2_penalty` added, and so have
        the gradients.
    augment : callable, optional
        ``augment(images, rng) -> images``, applied to each batch.
    on_step : callable, optional
        Called with a `Step` after each step, to show progress or to change ``optimizer.lr``.
    validation : (ndarray, ndarray), optional
        Images and labels that the network is evaluated on after each epoch.

    Returns
    -------
    dict of str to list of float
        "loss" of each step; "epoch_loss", their mean over each epoch; with `validation` also
        "validation_loss" and "validation_accuracy" after each epoch.

    Raises
    ------
    ValueError
        If there are no images, not as many labels as images, or a count below 1.

    References
    ----------
    CS231n, "Neural Networks Part 3", section "Babysitting the learning process".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> from fastconv.training import SGD, accuracy, fit
    >>> x = np.random.default_rng(0).standard_normal((100, 2), np.float32)
    >>> y = (x[:, 0] > x[:, 1]).astype(int)
    >>> net = Linear(2, 2, rng=0)
    >>> history = fit(net, x, y, epochs=50, batch_size=20, optimizer=SGD(net, 0.5), rng=0)
    >>> history["epoch_loss"][-1] < history["epoch_loss"][0]
    True
    >>> accuracy(net, x, y) > 0.9
    True
    """
    x, y = _checked_data(x, y)
    epochs, batch_size = _count("epochs", epochs), _count("batch_size", batch_size)
    l2 = _checks.check_strength("fit: l2", l2)
    if getattr(optimizer, "net", net) is not net:
        raise ValueError("fit: the optimizer was made for another network than net")
    rng = np.random.default_rng(rng)
    history = {"loss": [], "epoch_loss": []}
    if validation is not None:
        validation = _checked_data(*validation)
        history |= {"validation_loss": [], "validation_accuracy": []}
    steps = -(-len(x) // batch_size)
    share = None
    net.train()
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(x))
        for step in range(1, steps + 1):
            chosen = order[(step - 1) * batch_size : step * batch_size]
            images = x[chosen] if augment is None else augment(x[chosen], rng)
            step_loss = _train_step(net, images, y[chosen], optimizer, loss, l2)
            history["loss"].append(step_loss)
            if step == steps:
                share = _end_epoch(history, steps, net, validation, loss)
            if on_step is not None:
                on_step(Step(epoch, epochs, step, steps, step_loss, share))
    return history


def _end_epoch(history, steps, net, validation, loss):
    history["epoch_loss"].append(float(np.mean(history["loss"][-steps:])))
    if validation is None:
        return None
    value, share = evaluate(net, *validation, loss=loss)
    history["validation_loss"].append(value)
    history["validation_accuracy"].append(share)
    return share


def _train_step(net, x, y, optimizer, loss, l2):
    value, dscores = loss(net.forward(x), y)
    net.backward(dscores, need_dx=False)
    if l2:
        value += add_l2_penalty(net, l2)
    optimizer.step()
    return float(value)


def predict(net, x, *, batch_size=256):
    """Label of each image: the class with the highest score.

    Parameters
    ----------
    net : Layer
        A network whose output is (N, classes).
    x : ndarray, shape (N, ...)
        Images.
    batch_size : int
        Images at a time; bounds the memory.

    Returns
    -------
    ndarray of int64, shape (N,)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> from fastconv.training import predict
    >>> net = Linear(2, 2)
    >>> net.load_state_dict({"weight": np.eye(2), "bias": np.zeros(2)})
    >>> predict(net, np.array([[1, 0], [0, 1], [3, 2]], np.float32))
    array([0, 1, 0])
    """
    labels = [np.argmax(net(batch), axis=1) for batch in _batches(x, batch_size)]
    return np.concatenate(labels) if labels else np.zeros(0, np.int64)


def accuracy(net, x, y, *, batch_size=256):
    """Share of the images that the network labels right, between 0 and 1."""
    x, y = _checked_data(x, y)
    return float(np.mean(predict(net, x, batch_size=batch_size) == y))


def evaluate(net, x, y, *, loss=softmax_loss, batch_size=256):
    """Mean loss and accuracy over all images, in evaluation mode.

    Parameters
    ----------
    net, x, y, batch_size
        As for `predict` and `accuracy`.
    loss : callable
        ``loss(scores, y) -> (loss, dscores)``, a mean over the batch.

    Returns
    -------
    loss : float
    accuracy : float
    """
    x, y = _checked_data(x, y)
    total = correct = 0
    batches = zip(_batches(x, batch_size), _batches(y, batch_size), strict=True)
    for images, truth in batches:
        scores = net(images)
        total += float(loss(scores, truth)[0]) * len(truth)
        correct += int(np.sum(np.argmax(scores, axis=1) == truth))
    return total / len(x), correct / len(x)


def _batches(array, batch_size):
    batch_size = _count("batch_size", batch_size)
    return (array[i : i + batch_size] for i in range(0, len(array), batch_size))


def _checked_data(x, y):
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x of shape {x.shape} holds no images")
    if y.shape != (len(x),):
        raise ValueError(f"x of shape {x.shape} needs labels y of shape ({len(x)},), got {y.shape}")
    return x, y


def _count(name, value):
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}, expected a positive integer") from None
    if number < 1:
        raise ValueError(f"{name}={value!r}, expected a positive integer")
    return number
