"""Trials that were disturbed are named where the run is told of, and nowhere else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

from rich.console import Console

from ablator.contracts.record import Retry
from ablator.report.csv import render_json
from ablator.report.disturbed import disturbed_line
from ablator.report.markdown import render_markdown
from ablator.report.page import render_page
from ablator.report.table import Table
from ablator.report.terminal import print_table

RETRIES = (Retry(ended="worker died", when=5.0, epoch=3), Retry(ended="out of memory", when=9.0))
INCIDENTS = ("one checkpoint could not be written",)
LINE = (
    "Disturbed: arm, seed 0, 3 starts (worker died, went on in epoch 4; out of memory, went on in "
    "epoch 1; one checkpoint could not be written)."
)


def table_of(build: Callable[..., Table], **more: object) -> Table:
    return build({"base": [80.0, 81.0], "arm": [82.0]}, more={"arm": more})


def test_a_restart_is_told_and_changes_no_number(build: Callable[..., Table]) -> None:
    plain, table = table_of(build), table_of(build, retries=RETRIES, attempts=3, incidents=INCIDENTS)
    assert disturbed_line(table.disturbed) == LINE
    assert LINE in render_markdown(table)
    assert LINE in render_page(table)
    console = Console(width=200, file=io.StringIO(), record=True)
    print_table(table, console)
    assert LINE in console.export_text()
    (told,) = json.loads(render_json(table))["disturbed"]
    assert (told["label"], told["seed"], told["attempts"]) == ("arm", 0, 3)
    assert told["retries"][0] == {"ended": "worker died", "when": 5.0, "epoch": 3}
    for render in (render_markdown, render_json, render_page):
        assert render(table, costs=False) == render(plain, costs=False)
        assert "Disturbed" not in render(plain)


def test_what_happened_to_a_trial_of_one_start_is_told_as_well(build: Callable[..., Table]) -> None:
    table = table_of(build, incidents=INCIDENTS)
    line = disturbed_line(table.disturbed)
    assert line == "Disturbed: arm, seed 0 (one checkpoint could not be written)."
    assert not table.footnotes


def test_of_many_the_first_are_named(build: Callable[..., Table]) -> None:
    labels = {f"arm {n}": [80.0] for n in range(8)}
    table = build(labels, more={label: {"retries": RETRIES} for label in labels})
    line = disturbed_line(table.disturbed)
    assert "arm 4, seed 0" in line
    assert "arm 5" not in line
    assert line.endswith("; and 3 more trials.")
