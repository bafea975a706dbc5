"""MoTo's factorised form against the formula term by term and against copying the map.

    python benchmarks/moto.py            # CPU, one thread; a GPU where there is one
    python benchmarks/moto.py --quick    # two cells, seconds

The table goes to standard output; the profiler that counts CPU memory logs to standard error.

Times are ratios to `x.clone()` of the same map in the same run (median of interleaved repeats); memory is
the peak beyond the inputs, in maps, with the output and the gradients of map and layout counted.

Shape legend: B batch, C channels, H W height and width, N entities.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ablator.components.modulation import modulate, modulate_term_by_term, partition
from ablator.components.moments import Statistics

EPS = 1e-3
Modulate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's queue emptied before and after."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Most bytes allocated at one time during the call, what it returns included."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = call()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    del kept
    return int(max(itertools.accumulate((change for _, change in changes), initial=0)))


def median_times(calls: list[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """Median seconds of each call; the calls take turns, so that a busy machine slows all alike."""
    for call in calls:
        call()
    rounds = [[seconds(call, device) for call in calls] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def forms(reading: Statistics, compiled: bool) -> dict[str, Modulate]:
    """The implementations under measurement, by name."""

    def factorised(x_BCHW: Tensor, layout_BNHW: Tensor, scale_NC: Tensor, shift_NC: Tensor) -> Tensor:
        return modulate(x_BCHW, layout_BNHW, scale_NC, shift_NC, statistics=reading, eps=EPS)

    def term_by_term(x_BCHW: Tensor, layout_BNHW: Tensor, scale_NC: Tensor, shift_NC: Tensor) -> Tensor:
        return modulate_term_by_term(x_BCHW, layout_BNHW, scale_NC, shift_NC, statistics=reading, eps=EPS)

    named: dict[str, Modulate] = {"factorised": factorised, "term by term": term_by_term}
    if compiled:
        named["factorised, compiled"] = torch.compile(factorised)
    return named


def measure(
    cell: tuple[int, int, int], dtype: torch.dtype, options: argparse.Namespace, device: str
) -> Iterator[list[str]]:
    """The table's rows for one (C, side, N)."""
    channels, side, entities = cell
    torch.manual_seed(0)
    shape = (options.batch, channels, side, side)
    x_BCHW = torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    logits_BNHW = torch.randn(options.batch, entities, side, side, device=device)
    layout_BNHW = partition(logits_BNHW, tau=0.1, kind="soft").requires_grad_()
    scale_NC = torch.ones(entities, channels, device=device, requires_grad=True)
    shift_NC = torch.zeros(entities, channels, device=device, requires_grad=True)
    inputs = (x_BCHW, layout_BNHW, scale_NC, shift_NC)
    gradient_BCHW = torch.ones_like(x_BCHW)

    def forward(form: Modulate) -> Tensor:
        with torch.no_grad():
            return form(*inputs)

    def both(form: Modulate) -> object:
        out_BCHW = form(*inputs)
        return out_BCHW, torch.autograd.grad(out_BCHW, inputs, gradient_BCHW.to(out_BCHW.dtype))

    named = forms(options.statistics, options.compile)
    calls: list[Callable[[], object]] = [x_BCHW.detach().clone]
    for form in named.values():
        calls += [lambda form=form: forward(form), lambda form=form: both(form)]  # type: ignore[misc]
    copy, *times = median_times(calls, device, options.repeats)
    map_bytes = x_BCHW.nbytes
    for index, name in enumerate(named):
        ahead, full = calls[1 + 2 * index], calls[2 + 2 * index]
        yield [
            f"{device} {str(dtype).removeprefix('torch.')}",
            f"{channels}×{side}²",
            str(entities),
            name,
            f"{times[2 * index] * 1e3:.2f}",
            f"{times[2 * index] / copy:.1f}",
            f"{times[2 * index + 1] * 1e3:.2f}",
            f"{times[2 * index + 1] / copy:.1f}",
            f"{peak_bytes(ahead, device) / map_bytes:.1f}",
            f"{peak_bytes(full, device) / map_bytes:.1f}",
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="two cells and few repeats")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--repeats", type=int, default=7, help="measurements per cell")
    parser.add_argument("--statistics", choices=get_args(Statistics), default="weighted", help="reading")
    parser.add_argument("--compile", action="store_true", help="also the factorised form under torch.compile")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="one device instead of all that are there")
    parser.add_argument("--output", type=Path, help="also write the rows as JSON here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells = list(itertools.product((64, 112, 384), (56, 14), (8, 32)))
    if options.quick:
        cells, options.batch, options.repeats = [(64, 56, 8), (384, 14, 32)], 4, 3
    devices = (
        [options.device] if options.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    )
    threads = f"{options.threads} thread(s)"
    print(f"torch {torch.__version__}, batch {options.batch}, {threads}, {options.statistics}\n")
    header = [
        "device",
        "map",
        "n",
        "form",
        "fwd ms",
        "fwd ÷ copy",
        "fwd+bwd ms",
        "fwd+bwd ÷ copy",
        "fwd maps",
        "fwd+bwd maps",
    ]
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    rows = []
    for device in devices:
        for dtype in [torch.float32, *([torch.bfloat16] if device == "cuda" else [])]:
            for cell in cells:
                for row in measure(cell, dtype, options, device):
                    print("| " + " | ".join(row) + " |", flush=True)
                    rows.append(dict(zip(header, row, strict=True)))
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
