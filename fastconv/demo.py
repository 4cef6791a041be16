"""``fastconv demo``: a small ConvNet learns to read real handwritten digits.

It builds the lecture's INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC (CS231n, "Layer
Patterns"), times one training step with the convolutions computed in four ways, trains, tests, and
draws what was learned. `build_net` and `train` show what a program of one's own would do.
"""

import argparse
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from math import cos, pi

import numpy as np

import fastconv
from fastconv import _demo_picture
from fastconv.bench import compare, loops
from fastconv.bench.environment import blas_threads, plural
from fastconv.data import load_digits
from fastconv.functional import softmax_loss
from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastconv.training import SGD, fit, predict

EPOCHS = 30
BATCH_SIZE = 32
LEARNING_RATE = 0.05
MAX_THREADS = 256  # as `fastconv.set_num_threads` allows
LOOP_IMAGES = 32  # the loops in Python run on so many images at most: they take 40 ms for each
LOOP_OPTIONS = {"stride": 1, "padding": 1, "groups": 1}

# How the convolutions of the timed networks are computed; all else is the same in them.
WAYS = {
    "python": "naive loops in Python",
    "naive": "naive loops in C",
    "im2col": "im2col + NumPy's BLAS",
    "auto": "fastconv",
}


# ---- the network and its training ---------------------------------------------------------------


def build_net(rng=None, algo="auto"):
    """INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC for 8x8 grey images and 10 digits."""
    conv = LoopConv2d if algo == "python" else Conv2d
    options = {} if algo == "python" else {"algo": algo}
    rng = np.random.default_rng(rng)
    return Sequential(
        conv(1, 32, 3, padding=1, rng=rng, **options),
        ReLU(),
        MaxPool2d(2),
        conv(32, 64, 3, padding=1, rng=rng, **options),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(64 * 2 * 2, 64, rng=rng),
        ReLU(),
        Linear(64, 10, rng=rng),
    )


def train(net, *, epochs, batch_size, rng, on_step=None):
    """Train with SGD and momentum; the learning rate falls to zero along a half cosine."""
    x, y = load_digits("train")
    optimizer = SGD(net, LEARNING_RATE, momentum=0.9, weight_decay=5e-3)

    def after_step(step):
        done = (step.epoch - 1 + step.step / step.steps) / epochs
        optimizer.lr = LEARNING_RATE * (1 + cos(pi * done)) / 2
        if on_step is not None:
            on_step(step)

    return fit(
        net,
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        rng=rng,
        augment=shift,
        on_step=after_step,
        validation=load_digits("test"),
    )


def shift(images, rng):
    """Move half of the images by up to one pixel in each direction, so that no epoch repeats."""
    N, _, H, W = images.shape
    moved = rng.random((N, 1, 1)) < 0.5
    top, left = np.where(moved, rng.integers(-1, 2, (2, N, 1, 1)), 0) + 1
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    n = np.arange(N)[:, np.newaxis, np.newaxis]
    rows, columns = top + np.arange(H)[:, np.newaxis], left + np.arange(W)
    return padded[n, rows, columns][:, np.newaxis]


# ---- the speed of a training step ---------------------------------------------------------------


class LoopConv2d(Conv2d):
    """A Conv2d that computes as one writes it first: Python loops, one NumPy sum per output."""

    def _infer(self, x):
        y = loops.forward(x, self.params["weight"], **LOOP_OPTIONS)
        return y + self.params["bias"][:, np.newaxis, np.newaxis]

    def _backward(self, dy, x, need_dx):
        w = self.params["weight"]
        self.grads["weight"] = loops.weight_grad(dy, x, w.shape, **LOOP_OPTIONS)
        self.grads["bias"] = dy.sum(axis=(0, 2, 3))
        return loops.input_grad(dy, w, x.shape, **LOOP_OPTIONS) if need_dx else None


def time_steps(batch_size):
    """Median seconds of one training step for each of `WAYS`, after a check that they agree.

    The loops in Python see at most `LOOP_IMAGES` images; their time is scaled up to the batch.
    """
    x, y = (part[:batch_size] for part in load_digits("train"))
    nets = {way: build_net(0, way) for way in WAYS}
    for way, net in nets.items():
        _gradients(net, x[:4], y[:4])
        for name, expected in nets["python"].grads.items():
            if not np.allclose(net.grads[name], expected, rtol=1e-3, atol=1e-5):
                raise RuntimeError(f"gradient {name} of {WAYS[way]} is wrong")

    images = dict.fromkeys(WAYS, len(x)) | {"python": min(len(x), LOOP_IMAGES)}
    # A learning rate of zero: every step does all the work and finds the same weights.
    optimizers = {way: SGD(net, 0, momentum=0.9) for way, net in nets.items()}

    def step(way):
        _gradients(nets[way], x[: images[way]], y[: images[way]])
        optimizers[way].step()

    timings = compare({way: partial(step, way) for way in WAYS})
    return {way: timing.median * len(x) / images[way] for way, timing in timings.items()}


def _gradients(net, x, y):
    _, dscores = softmax_loss(net.forward(x), y)
    net.backward(dscores, need_dx=False)


# ---- the whole demonstration --------------------------------------------------------------------


def run_demo(*, epochs=EPOCHS, batch_size=BATCH_SIZE, seed=0, threads=None, plot=None, quiet=False):
    """Time a training step, train the digit reader, test it, and tell about it.

    Parameters
    ----------
    epochs, batch_size : int
        How long to train, and images per step.
    seed : int
        Makes the initial weights and the order of the images repeatable.
    threads : int, optional
        Threads of fastconv and, where threadpoolctl is installed, of NumPy's BLAS.
    plot : str or path, optional
        File for a picture of the filters, some digits and the training curve.
    quiet : bool
        Print nothing.

    Returns
    -------
    dict
        "accuracy" (of the test images, 0 to 1), "wrong" and "tested" (images), "history" (see
        `fit`), "training_seconds", "step_seconds" and "speedup" (of fastconv) by way of computing
        the convolutions, "parameters", "threads", "batch_size" and "epochs".

    Raises
    ------
    ValueError
        If a number is out of range, or `plot` is no file that can be written.
    ImportError
        If `plot` is given without matplotlib.

    Examples
    --------
    >>> from fastconv.demo import run_demo
    >>> result = run_demo(epochs=1, batch_size=16, quiet=True)
    >>> result["tested"]
    360
    """
    if plot is not None:
        _demo_picture.check(plot)
    batch_size = min(batch_size, len(load_digits("train")[1]))
    screen = Screen(quiet)
    with ExitStack() as stack:
        if threads is not None:
            stack.enter_context(fastconv.threads(threads))
        stack.enter_context(blas_threads(fastconv.get_num_threads()))
        net = build_net(seed)
        result = {
            "epochs": epochs,
            "batch_size": batch_size,
            "threads": fastconv.get_num_threads(),
            "parameters": sum(p.size for p in net.params.values()),
        }
        _introduce(screen, net, result)
        _compare_ways(screen, batch_size, result)
        _learn(screen, net, seed, result)
        if plot is not None:
            x, y = load_digits("test")
            _demo_picture.draw(plot, net, x, y, predict(net, x), result["history"])
            screen.say(f"   filters, digits and training curve: {plot}")
    return result


def _introduce(screen, net, result):
    train_images, test_images = (len(load_digits(split)[1]) for split in ("train", "test"))
    screen.title("A small ConvNet learns to read handwritten digits")
    screen.say(
        f"   data      {train_images:,} training and {test_images} test images, 8x8 pixels, "
        "real writing (UCI)\n"
        "   network   INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC\n"
        f"   machine   {fastconv.isa()} kernels, {plural(result['threads'], 'thread')}\n"
    )
    shape = (1, 1, 8, 8)
    screen.say(f"   {'layer':<14}{'output of an image':>20}{'parameters':>14}")
    for layer in net:
        shape = layer.output_shape(shape)
        size = "x".join(map(str, shape[1:]))
        count = sum(p.size for p in layer.params.values())
        count = f"{count:,}" if count else ""
        screen.say(f"   {type(layer).__name__:<14}{size:>20}{count:>14}".rstrip())
    screen.say(f"   {'together':<34}{result['parameters']:>14,}")


def _compare_ways(screen, batch_size, result):
    screen.title(f"1. One training step on {plural(batch_size, 'image')}, computed in four ways")
    seconds = time_steps(batch_size)
    result["step_seconds"] = seconds
    result["speedup"] = {way: s / seconds["auto"] for way, s in seconds.items() if way != "auto"}
    screen.say(f"   {'convolutions by':<24}{'ms a step':>12}   fastconv is")
    for way, name in WAYS.items():
        faster = result["speedup"].get(way)
        times = f"{faster:9.{1 if faster < 100 else 0}f} times faster" if faster else ""
        scaled = "~" if way == "python" and batch_size > LOOP_IMAGES else ""
        milliseconds = f"{scaled}{1e3 * seconds[way]:.2f}"
        screen.say(f"   {name:<24}{milliseconds:>12}   {times}".rstrip())
    if batch_size > LOOP_IMAGES:
        screen.say(f"   ~ measured on {LOOP_IMAGES} images and scaled up")
    screen.say(
        "   Forward, backward and update; all gradients agree. Pooling, ReLU and the\n"
        "   fully-connected layers are the same in every row. Alternating runs, medians."
    )


def _learn(screen, net, seed, result):
    epochs, batch_size = result["epochs"], result["batch_size"]
    screen.title(f"2. Training: {plural(epochs, 'epoch')} in batches of {batch_size}")
    start = time.perf_counter()
    with screen.progress(epochs) as on_step:
        result["history"] = train(
            net, epochs=epochs, batch_size=batch_size, rng=seed, on_step=on_step
        )
    result["training_seconds"] = time.perf_counter() - start
    x, y = load_digits("test")
    result["tested"] = len(y)
    result["wrong"] = int(np.sum(predict(net, x) != y))
    result["accuracy"] = 1 - result["wrong"] / len(y)
    screen.title("3. Reading digits it has never seen")
    screen.say(f"   {summary(result)}")


def summary(result):
    """The outcome in a sentence."""
    return (
        f"test accuracy {result['accuracy']:.1%}: {result['tested'] - result['wrong']} of "
        f"{result['tested']} images right, after {result['training_seconds']:.1f} s of training"
    )


# ---- what the user sees -------------------------------------------------------------------------


class Screen:
    """Prints text; on a terminal with rich also colours and a progress bar."""

    def __init__(self, quiet):
        self.quiet = quiet
        self.console = None
        if not quiet and sys.stdout.isatty():
            try:
                from rich.console import Console

                self.console = Console(highlight=False)
            except ImportError:
                pass

    def say(self, text):
        if not self.quiet:
            print(text, flush=True)

    def title(self, text):
        if self.console is not None:
            self.console.print(f"\n{text}", style="bold cyan", markup=False)
        else:
            self.say(f"\n{text}")

    @contextmanager
    def progress(self, epochs):
        """Give the function that `fit` calls after each step."""
        if self.console is None:
            yield self._report_lines(epochs)
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("   {task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task("", total=None)
            yield lambda step: bar.update(
                task,
                description=_describe(step),
                total=step.epochs * step.steps,
                advance=1,
            )

    def _report_lines(self, epochs):
        every = max(1, epochs // 8)

        def report(step):
            if step.step == step.steps and (step.epoch % every == 0 or step.epoch == epochs):
                self.say(f"   {_describe(step)}")

        return report


def _describe(step):
    text = f"epoch {step.epoch:>{len(str(step.epochs))}}/{step.epochs}   loss {step.loss:.4f}"
    return text if step.accuracy is None else f"{text}   test accuracy {step.accuracy:.1%}"


# ---- the command --------------------------------------------------------------------------------


def add_arguments(parser):
    """Add the arguments of ``fastconv demo`` to its parser."""
    parser.description = (
        "Build, time, train and test a small ConvNet on 1,797 real handwritten digits."
    )
    add = parser.add_argument
    add("--plot", metavar="FILE.png", help="draw the learned filters and some classified digits")
    add(
        "--epochs",
        type=_positive,
        default=EPOCHS,
        metavar="N",
        help=f"passes over the training images (default: {EPOCHS})",
    )
    add(
        "--batch",
        type=_positive,
        default=BATCH_SIZE,
        metavar="N",
        help=f"images in a training step (default: {BATCH_SIZE})",
    )
    add(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="another seed trains another network (default: 0)",
    )
    add(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads to use (default: as in `fastconv info`)",
    )
    add("--quiet", action="store_true", help="print the result alone")


def run(args):
    """Run ``fastconv demo``; `args.error` prints a line and exits with status 2."""
    if args.plot is not None:
        try:
            _demo_picture.check(args.plot)
        except (ValueError, ImportError) as error:
            args.error(f"argument --plot: {error}")
    if args.threads is not None and args.threads > MAX_THREADS:
        args.error(f"argument --threads: {args.threads} is more than {MAX_THREADS}")
    result = run_demo(
        epochs=args.epochs,
        batch_size=args.batch,
        seed=args.seed,
        threads=args.threads,
        plot=args.plot,
        quiet=args.quiet,
    )
    if args.quiet:
        print(summary(result))
    return 0


def _positive(text):
    return _whole_number(text, 1)


def _seed(text):
    return _whole_number(text, 0)


def _whole_number(text, lowest):
    value = int(text) if text.isascii() and text.isdigit() else -1
    if value < lowest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} up")
    return value
