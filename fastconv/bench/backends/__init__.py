"""``fastconv bench --backend NAME``: a net's own functions against those of its backend."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackendCase:
    """Something a net does, to be timed with its own functions and with the backend's.

    Attributes
    ----------
    name : str
        What is computed, and the shape: "conv2d 3x3 (32,16,28,28)".
    kind : str
        "forward", "backward" or "step".
    build : callable
        Called once with the net as it is and once with the backend active; returns a call
        without arguments. The first results of both (arrays, or tuples, lists and dicts of
        them) are compared before anything is timed.
    terms : int
        Length of the longest sum behind an element: the tolerance grows with it.
    bar : float or None
        How many times as fast the backend promises to be at least.
    baseline : callable or None
        Takes the place of `build` for the net as it is, where that cannot compute this.
    against : str
        What the baseline is, for people.
    """

    name: str
    kind: str
    build: Callable[[], Callable[[], object]]
    terms: int
    bar: float | None = None
    baseline: Callable[[], Callable[[], object]] | None = None
    against: str = "original"
