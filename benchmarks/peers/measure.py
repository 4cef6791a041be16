"""The candidates of a layer: verified, then timed in turns."""

import math
from dataclasses import asdict, dataclass

from benchmarks.peers.adapters import INFERENCE, NotAvailable, Peer
from benchmarks.peers.tasks import BEST, MAIN, Task
from benchmarks.peers.work import Call, make_work
from fastconv.bench.report import Measured, Result, means
from fastconv.bench.timing import Timing, compare


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure; see `fastconv.bench.compare` for the first five."""

    min_time: float
    min_rounds: int
    max_time: float
    sample_time: float
    warm_time: float
    tries: int  # for a layer that was not steady

    def timing(self) -> dict:
        return {name: value for name, value in asdict(self).items() if name != "tries"}


FULL = Budget(min_time=0.15, min_rounds=9, max_time=1.5, sample_time=0.01, warm_time=0.006, tries=3)
QUICK = Budget(
    min_time=0.03, min_rounds=3, max_time=0.3, sample_time=0.005, warm_time=0.006, tries=2
)
STEADY = 0.25  # distance of the quartiles as a share of the median


class PeerResult(Result):
    """A measured layer, with the best peer as one more name to be compared with."""

    __slots__ = ()

    def best(self) -> str | None:
        """The fastest of the peers that have engines of their own."""
        rate = super().rate
        names = [name for name in INFERENCE if not math.isnan(rate(name))]
        return max(names, key=rate, default=None)

    def rate(self, name: str) -> float:
        return super().rate((self.best() or "") if name == BEST else name)

    def as_dict(self) -> dict:
        return super().as_dict() | {"best_peer": self.best()}


@dataclass(frozen=True, slots=True)
class Table:
    """The layers of a task at one batch size, as far as they are measured."""

    task: Task
    N: int
    results: list[PeerResult]

    def as_dict(self) -> dict:
        return {
            "task": self.task.key,
            "title": self.results[0].operation.title,
            "kind": self.task.kind,
            "dtype": self.task.dtype,
            "N": self.N,
            "geometric_means": means(self.results),
            "results": [
                result.as_dict() | {"least_bytes": self.task.least_bytes(result.case)}
                for result in self.results
            ],
        }


def measure_case(
    operation, task: Task, case, peers: list[Peer], budget: Budget, roof: float
) -> PeerResult:
    """Time all candidates on a layer; those that fail or are wrong are left out, with a word."""
    work = make_work(task, case)
    calls: dict[str, Call] = {}
    measured: dict[str, Measured] = {}
    for peer in peers:
        names = peer.names(task)
        if not names:
            continue
        found, failure = _calls(peer, task, work)
        calls |= found
        failure = failure or "not available"
        measured |= {name: Measured(None, 1.0, math.nan, failure) for name in names}
    for name, call in calls.items():
        measured[name] = _verified(call, work)
    right = {name: calls[name].run for name in calls if not measured[name].failure}
    for name, timing in _timings(right, budget).items():
        measured[name] = Measured(timing, measured[name].scale, measured[name].error)
    return PeerResult(operation, case, task.amount(case), roof, measured)


def _timings(candidates: dict, budget: Budget) -> dict[str, Timing]:
    """Of all candidates in one go; again if other programs disturbed it, and the steadiest go."""
    steadiest, least = {}, math.inf
    for _ in range(budget.tries):
        timings = compare(candidates, **budget.timing())
        spread = max((timings[name].spread for name in timings if _counts(name)), default=0.0)
        if spread < least:
            steadiest, least = timings, spread
        if spread <= STEADY:
            break
    return steadiest


def _counts(name: str) -> bool:
    """Whether the bars are about it: OpenBLAS is unsteady by itself."""
    return name in (MAIN, *INFERENCE)


def _calls(peer: Peer, task: Task, work) -> tuple[dict[str, Call], str]:
    try:
        return peer.calls(task, work), ""
    except NotAvailable as error:
        return {}, f"not available: {error}"
    except MemoryError:
        return {}, "out of memory"
    except Exception as error:  # others' code: it must not end an hour of measuring
        return {}, f"failed: {_one_line(error)}"


def _verified(call: Call, work) -> Measured:
    """Not timed yet; `failure` says why it never will be."""
    small = call.work or work
    scale = work.case.work / small.case.work
    try:
        error = small.error(call.value(call.run())) / call.slack
    except MemoryError:
        return Measured(None, scale, math.nan, "out of memory")
    except ArithmeticError:  # the reference is wrong
        raise
    except Exception as error:
        return Measured(None, scale, math.nan, f"failed: {_one_line(error)}")
    return Measured(None, scale, error, "" if error <= 1 else "wrong")


def _one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def complaints(tables: list[Table]) -> list[str]:
    """A line for each way in which a candidate was wrong, failed, missing or unsteady."""
    layers: dict[tuple[str, str, str], list[str]] = {}
    for table in tables:
        for result in table.results:
            for name, found in result.measured.items():
                text = found.failure
                if found.timing and _counts(name) and found.timing.spread > STEADY:
                    text = "unsteady, quartiles more than a quarter of the median apart"
                if text == "wrong":
                    text = f"WRONG: the error is {found.error:.3g} times the tolerance"
                if text:
                    layers.setdefault((name, table.task.key, text), []).append(result.case.name)
    return [
        f"{name}, {key}: {text} ({names[0]}"
        + (f" and {len(names) - 1} more)" if len(names) > 1 else ")")
        for (name, key, text), names in layers.items()
    ]


def all_right(tables: list[Table]) -> bool:
    """Whether nothing was wrong; what a version does not have is no fault."""
    return not any(
        found.failure == "wrong" or found.failure.startswith("failed")
        for table in tables
        for result in table.results
        for found in result.measured.values()
    )
