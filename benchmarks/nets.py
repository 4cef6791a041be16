"""Whole nets against the same nets in PyTorch: ``python -m benchmarks.nets``.

Prepared for inference, both compute the scores of the same images with the same parameters.
Results are verified against PyTorch in float64; then the candidates take turns in one process with
as many threads each.
"""

import argparse
import gc
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import fastconv
from benchmarks.torch_nets import to_torch
from fastconv import nets
from fastconv.bench.command import check_writable, positive, write_json
from fastconv.bench.environment import environment, others_share
from fastconv.bench.timing import Timing, compare
from fastconv.cli import Parser

MAIN = ("resnet50", "vgg16", "alexnet", "googlenet", "mobilenet_v2")
OURS, THEIRS, CHANNELS_LAST = "fastconv", "torch", "torch channels last"
CANDIDATES = (OURS, THEIRS, CHANNELS_LAST)
# Share of the largest score: some eps of float32 for each of up to a hundred layers, and the
# larger constants of Winograd's algorithm.
TOLERANCE = 1e-4
EPILOG = """\
Numbers are medians in milliseconds; ± is the distance between the quartiles as a share of the
median; x is the time of the other divided by that of fastconv.
  fastconv             net.prepare(): batch norm folded, ReLUs and sums fused, filters packed
  torch                eager, eval(), inference_mode(), NCHW
  torch channels last  the same, with images and filters in channels-last order
"""


@dataclass(frozen=True, slots=True)
class Result:
    """A net with a number of threads; errors are shares of the largest score."""

    net: str
    N: int
    threads: int
    timings: dict[str, Timing]
    errors: dict[str, float]

    def speedup(self, name: str) -> float:
        return self.timings[name].median / self.timings[OURS].median

    def as_dict(self) -> dict:
        return {
            "net": self.net,
            "N": self.N,
            "threads": self.threads,
            "error": self.errors,
            "seconds": {name: asdict(timing) for name, timing in self.timings.items()},
            "speedup": {name: self.speedup(name) for name in self.timings if name != OURS},
        }


def enliven(net, rng: np.random.Generator) -> None:
    """Give biases and running statistics numbers as in a trained net.

    Those of a new one, 0 and 1, would hide it if a layer were left out.
    """
    for name, array in net._state().items():
        if name.endswith("running_var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif name.endswith(("running_mean", "bias")):
            array[...] = rng.normal(0, 0.1, array.shape)


def make_candidates(net, x: np.ndarray) -> dict:
    """Callables by name; each returns the scores."""
    module = to_torch(net)
    images = torch.from_numpy(x)
    # torch has its own copy of the filters, so that the two orders do not disturb each other
    last = to_torch(net).to(memory_format=torch.channels_last)
    images_last = images.to(memory_format=torch.channels_last)
    prepared = net.prepare(x.shape)

    @torch.inference_mode()
    def run_torch():
        return module(images)

    @torch.inference_mode()
    def run_channels_last():
        return last(images_last)

    return {OURS: lambda: prepared(x), THEIRS: run_torch, CHANNELS_LAST: run_channels_last}


def expected_scores(net, x: np.ndarray) -> np.ndarray:
    """PyTorch's in float64."""
    with torch.inference_mode():
        return to_torch(net).double()(torch.from_numpy(x).double()).numpy()


def measure(name: str, N: int, threads: list[int], budget: dict) -> list[Result]:
    """Verify and time a net with each number of threads.

    Raises
    ------
    ArithmeticError
        If scores are wrong.
    """
    rng = np.random.default_rng(0)
    entry = nets.NAMES[name]
    net = entry.build(rng=rng).eval()
    enliven(net, rng)
    x = rng.standard_normal((N, *entry.input_shape), np.float32)
    expected = expected_scores(net, x)
    largest = np.abs(expected).max()
    results = []
    for count in threads:
        set_threads(count)
        candidates = make_candidates(net, x)
        errors = {
            candidate: float(np.abs(np.asarray(run()) - expected).max() / largest)
            for candidate, run in candidates.items()
        }
        for candidate, error in errors.items():
            if not error <= TOLERANCE:
                raise ArithmeticError(f"{name}: {candidate} is wrong by {error:.2g} of the largest")
        results.append(Result(name, N, count, compare(candidates, **budget), errors))
        del candidates
        gc.collect()
    return results


def set_threads(count: int) -> None:
    """The same number for both."""
    fastconv.set_num_threads(count)
    torch.set_num_threads(count)


# ---- what is found ------------------------------------------------------------------------------

HEADINGS = ("net", "N", "threads", *CANDIDATES, "x torch", "x best torch")


def row(result: Result) -> list[str]:
    times = [
        f"{timing.median * 1e3:.2f} ms ±{timing.spread:.0%}" for timing in result.timings.values()
    ]
    best = min(result.speedup(name) for name in (THEIRS, CHANNELS_LAST))
    numbers = [f"{result.speedup(THEIRS):.2f}", f"{best:.2f}"]
    return [result.net, str(result.N), str(result.threads), *times, *numbers]


def markdown(machine: dict, results: list[Result]) -> str:
    cpu = machine["cpu"]
    lines = [
        "# Nets, prepared for inference",
        "",
        f"{cpu['model']}, {cpu['usable_cores']} cores, {machine['isa']}; PyTorch "
        f"{machine['torch']}, Python {machine['python']}, {machine['time']}.",
        "",
        "Verified against float64, then timed in turns in one process. " + EPILOG.split("  f")[0],
    ]
    table = [HEADINGS, ["---"] * len(HEADINGS), *map(row, results)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in table]) + "\n"


# ---- command line -------------------------------------------------------------------------------


def names(text: str) -> list[str]:
    found = [word.strip() for word in text.split(",")]
    for name in found:
        if name not in nets.NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(nets.NAMES)}")
    return found


def counts(text: str) -> list[int]:
    return [positive(word) for word in text.split(",")]


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmarks.nets",
        description="Measure whole nets, prepared for inference, against PyTorch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--nets", type=names, default=list(MAIN), help=f"of fastconv.nets ({', '.join(MAIN)})")
    add("-n", "--batch", type=positive, default=1, metavar="N", help="images at once (1)")
    most = fastconv.get_num_threads()
    default = sorted({1, most})
    add("--threads", type=counts, default=default, help=f"such as 1,2 (here {default})")
    add("--seconds", type=float, default=2.0, help="to measure each candidate (2)")
    add("--markdown", metavar="FILE", help="write the table")
    add("--json", metavar="FILE", help="write everything that was measured")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    args.error = parser.error
    check_writable(args, "--markdown", args.markdown)
    check_writable(args, "--json", args.json)
    machine = environment() | {"torch": torch.__version__, "others_share": others_share()}
    budget = {
        "min_time": args.seconds,
        "max_time": 3 * args.seconds,
        "min_rounds": 15,
        "sample_time": 0.005,
        "warm_time": 0.006,  # PyTorch's threads have to wake up
    }
    results: list[Result] = []
    print(" | ".join(HEADINGS))
    for name in args.nets:
        for result in measure(name, args.batch, args.threads, budget):
            print(" | ".join(row(result)), flush=True)
            results.append(result)
    if args.markdown:
        Path(args.markdown).write_text(markdown(machine, results), encoding="utf-8")
    if args.json:
        write_json(args.json, machine | {"results": [result.as_dict() for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
