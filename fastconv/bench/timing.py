"""One timing routine for every benchmark of the project: candidates take turns in one process.

Turns matter because clock speed and the other users of a machine drift over seconds; candidates
measured one after the other would each get a different machine.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call of one candidate.

    Attributes
    ----------
    median : float
        Median over the rounds, in seconds.
    iqr : float
        Distance between the quartiles, in seconds.
    rounds : int
        Number of samples the median is taken of.
    calls : int
        Calls a sample is the mean of.
    """

    median: float
    iqr: float
    rounds: int
    calls: int

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median."""
        return self.iqr / self.median if self.median > 0 else 0.0


def settle(limit: float = 0.3, step: float = 0.005) -> None:
    """Sleep until no thread of this process computes, at most `limit` seconds.

    OpenBLAS' workers spin for about 0.1 s after a matrix product and would slow down whatever
    is measured next; fastconv's own workers sleep after some microseconds.
    """
    deadline = time.perf_counter() + limit
    while time.perf_counter() < deadline:
        busy = time.process_time()
        time.sleep(step)
        if time.process_time() - busy < step / 2:
            return


def compare(
    candidates: Mapping[str, Callable[[], object]],
    *,
    min_time: float = 0.2,
    min_rounds: int = 7,
    max_time: float = 1.0,
    sample_time: float = 0.02,
    warm_time: float = 0.0,
    settle: Callable[[], None] = settle,
    switch: Callable[[str], None] = lambda name: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time callables fairly: they take turns until each has been measured long enough.

    Every candidate is called once to warm up (caches, buffers, threads). Then, in each round,
    every candidate that still needs samples gives one: the mean of as many calls as fill
    `sample_time`. Calls that are short beside it run once uncounted before, to refill caches
    and wake threads. The round's first candidate changes from round to round, so that none
    always follows the same neighbour.

    Parameters
    ----------
    candidates : mapping of str to callable
        What to time; called without arguments.
    min_time, min_rounds : float, int
        A candidate is done when its samples add up to `min_time` seconds and there are at
        least `min_rounds` of them.
    max_time : float
        Budget of a candidate in seconds: once its samples have used that much it is done,
        whatever `min_rounds` says. A warm-up call that takes this long is the only sample.
    sample_time : float
        Seconds that a sample should last at least: many short calls make one sample.
    warm_time : float
        Seconds that short calls run uncounted at the start of each turn: for candidates that
        bring threads of their own, which have to wake up.
    settle : callable
        Called before each turn; waits until the threads of the turn before are quiet.
    switch : callable
        Called with a candidate's name before each of its turns: what has to be as it needs it.
    clock : callable
        Returns seconds.

    Returns
    -------
    dict of str to Timing
        In the order of `candidates`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.ones((64, 64), np.float32)
    >>> timings = compare({"matmul": lambda: x @ x, "sum": lambda: x.sum()},
    ...                   min_time=0.001, min_rounds=3)
    >>> sorted(timings)
    ['matmul', 'sum']
    """
    turns = {name: _Turns(call, clock) for name, call in candidates.items()}
    for name, turn in turns.items():
        settle()
        switch(name)
        turn.warm_up(sample_time, max_time)

    def unfinished(turn: _Turns) -> bool:
        enough = turn.used >= min_time and len(turn.samples) >= min_rounds
        return not enough and turn.used < max_time

    first = 0
    while waiting := [name for name, turn in turns.items() if unfinished(turn)]:
        first = (first + 1) % len(waiting)
        for name in waiting[first:] + waiting[:first]:
            settle()
            switch(name)
            turns[name].sample(warm_time)
    return {name: turn.timing() for name, turn in turns.items()}


class _Turns:
    """The samples of one candidate."""

    def __init__(self, call: Callable[[], object], clock: Callable[[], float]):
        self.call = call
        self.clock = clock
        self.calls = 1
        self.short = False
        self.used = 0.0
        self.samples: list[float] = []

    def _seconds(self, calls: int) -> float:
        call = self.call
        start = self.clock()
        for _ in range(calls):
            call()
        return self.clock() - start

    def warm_up(self, sample_time: float, max_time: float) -> None:
        seconds = self._seconds(1)
        if seconds >= max_time:
            self._keep(seconds)
            return
        if seconds < sample_time:  # the first call is the slowest: ask again before dividing
            seconds = max(self._seconds(1), 1e-9)
            self.calls = max(1, math.ceil(sample_time / seconds))
        self.short = seconds < 2 * sample_time

    def sample(self, warm_time: float) -> None:
        if self.short:
            end = self.clock() + warm_time
            self.call()
            while self.clock() < end:
                self.call()
        self._keep(self._seconds(self.calls))

    def _keep(self, seconds: float) -> None:
        self.used += seconds
        self.samples.append(seconds / self.calls)

    def timing(self) -> Timing:
        iqr = 0.0
        if len(self.samples) > 1:
            low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
            iqr = high - low
        return Timing(statistics.median(self.samples), iqr, len(self.samples), self.calls)
