"""Time to report 10,000 records: build the table, then write it in every format.

    python benchmarks/report.py [records]

Prints seconds, and for each step its share of building plus writing; nothing is kept. Where Debian's chromium
and chromium-driver are installed (and selenium, of `.[dev]`), also how long a browser takes to open the page,
and one of 200 records with curves of 300 epochs and links to their runs: from the start of the navigation to
the end of the load event, the median of five.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table as RichTable

from ablator.contracts.record import Record
from ablator.report.building import build_table
from ablator.report.reproducing import Reproduction
from ablator.report.table import RowSpec, Table, TableSpec
from ablator.report.terminal import print_table
from ablator.report.writing import RENDERERS, write_report

SEEDS = 5
T = TypeVar("T")


def study(count: int, epochs: int = 10) -> tuple[TableSpec, dict[str, Record]]:
    """`count` records of arms with SEEDS seeds each, curves of so many epochs, a failure in a hundred."""
    rng = random.Random(0)
    rows, records = [], {}
    for arm in range(count // SEEDS):
        identities = tuple((seed, f"{arm}/{seed}") for seed in range(SEEDS))
        rows.append(RowSpec(label=f"arm {arm}", changes={"moto.n": arm}, identities=identities))
        for seed, identity in identities:
            final = 80.0 + rng.gauss(0.0, 1.0)
            failed = rng.random() < 0.01 and arm > 0
            records[identity] = Record(
                identity=identity,
                status="failed" if failed else "completed",
                error="out of memory" if failed else None,
                spec={"seed": seed, "moto": {"n": arm}},
                metrics={} if failed else {"top1": final},
                curves=tuple(
                    {"epoch": float(epoch), "top1": final * epoch / epochs + rng.random()}
                    for epoch in range(1, epochs + 1)
                ),
                cost={"step_ms": 40.0 + rng.random(), "images_per_second": 900.0, "train_seconds": 30.0},
                size={"parameters": 22e6 + arm, "gmacs": 4.6},
                versions={"torch": "2.15.0"},
            )
    again = Reproduction(file="experiments/benchmark.yaml", study="", profile="laptop", overrides=[])
    spec = TableSpec(
        study="benchmark",
        question="How long does a large report take?",
        source="",
        profile="laptop",
        metric="top1",
        mode="max",
        baseline="arm 0",
        rows=again.rows(rows, mark=""),
        command=again.table(),
    )
    return spec, records


def linked(table: Table) -> Table:
    """The table with an address for every trial, as one that MLflow has."""
    address = "http://127.0.0.1:5000/#/experiments/1/runs/0123456789abcdef0123456789abcdef"
    return dataclasses.replace(
        table, links={cell.identity: address for row in table.rows for cell in row.cells}
    )


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds that `work` takes, and what it returns."""
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def opening(page: Path) -> float | None:
    """Seconds until the page is loaded; None without a browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        return None
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    taken = []
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        for _ in range(5):
            browser.get("about:blank")
            browser.get(page.as_uri())
            entry = browser.execute_script("return performance.getEntriesByType('navigation')[0].toJSON()")
            taken.append(entry["loadEventEnd"] / 1e3)
    finally:
        browser.quit()
    return statistics.median(taken)


def opened(count: int, page: Path) -> str:
    """What opening a page of `count` records came to."""
    seconds = opening(page)
    took = "not measured, because there is no browser" if seconds is None else f"{seconds:.2f} s"
    return f"opening the page of {count} records ({page.stat().st_size / 1e6:.1f} MB): {took}"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    spec, records = study(count)
    seconds: dict[str, float] = {}
    seconds["build_table"], table = timed(lambda: build_table(spec, records))
    for name, render in RENDERERS.items():
        seconds[f"render {name}"], _ = timed(functools.partial(render, table))
    with tempfile.TemporaryDirectory() as folder:
        seconds["write_report, all of them"], paths = timed(lambda: write_report(table, Path(folder)))
        sizes = {name: path.stat().st_size / 1e6 for name, path in paths.items()}
        small = write_report(linked(build_table(*study(200, epochs=300))), Path(folder) / "small")
        openings = [opened(count, paths["page.html"]), opened(200, small["page.html"])]
        with (Path(folder) / "terminal.txt").open("w") as file:
            seconds["print_table"], _ = timed(lambda: print_table(table, Console(file=file, width=120)))
    whole = seconds["build_table"] + seconds["write_report, all of them"]
    shown = RichTable(
        "step", "seconds", "of build + write", "MB", title=f"{len(records)} records, {len(table.rows)} rows"
    )
    for name, taken in seconds.items():
        size = sizes.get(name.removeprefix("render "))
        shown.add_row(
            name, f"{taken:.2f}", f"{100 * taken / whole:.0f} %", "" if size is None else f"{size:.1f}"
        )
    Console().print(shown)
    for line in openings:
        print(line)


if __name__ == "__main__":
    main()
