"""Nets to patterns."""

from fastconv.layers import Flatten, Linear, Sequential
from fastconv.nets._elements import KINDS

WORDS = {kind.layer: word for word, kind in KINDS.items()}


def write_pattern(net, input_shape):
    """Write a net of layers in a row as a pattern that builds the same net.

    Parameters
    ----------
    net : Sequential
        Layers, or `Sequential` of such.
    input_shape : (C, H, W) or (n,)
        Shape of one input.

    Raises
    ------
    ValueError
        If a layer, or one of its options, has no word in the language.
    """
    layers = list(_leaves(net))
    words = ["INPUT(" + "x".join(map(str, input_shape)) + ")"]
    shape = (1, *input_shape)
    for i, layer in enumerate(layers):
        # build flattens by itself where an FC meets images
        meets_fc = len(shape) == 4 and type(layers[min(i + 1, len(layers) - 1)]) is Linear
        if not (type(layer) is Flatten and meets_fc):
            words.append(_word(layer))
        shape = layer.output_shape(shape)
    return " -> ".join(fold(words))


def _leaves(layer):
    if isinstance(layer, Sequential):
        for part in layer:
            yield from _leaves(part)
    else:
        yield layer


def _word(layer):
    word = WORDS.get(type(layer))
    if word is None:
        raise ValueError(f"{layer!r} has no word in the language of layer patterns")
    arguments = KINDS[word].write(layer)
    return f"{word}({', '.join(arguments)})" if arguments else word


def fold(words):
    """Put what repeats in brackets, from the left: a b a b c becomes [a -> b]*2 c."""
    folded, i = [], 0
    while i < len(words):
        period, times = _best_repeat(words, i)
        block = words[i : i + period]
        folded += [f"[{' -> '.join(fold(block))}]*{times}"] if times > 1 else block
        i += period * times
    return folded


def _best_repeat(words, i):
    """The period from `i` on that saves most words, and how many times it is there."""
    periods = range(1, max(1, (len(words) - i) // 2) + 1)
    candidates = ((period, _times(words, i, period)) for period in periods)
    return max(candidates, key=lambda found: (found[0] * (found[1] - 1), -found[0]))


def _times(words, i, period):
    """How many times in a row the `period` words from `i` on stand there."""
    times = 1
    while words[i : i + period] == words[i + times * period : i + (times + 1) * period]:
        times += 1
    return times
