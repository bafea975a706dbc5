"""What `ablator status` shows: who runs what, the tables as they fill, and where studies stand."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

if TYPE_CHECKING:
    from ablator.results.standing import Standing
    from ablator.watching import State

_SECONDS = 2.0
"""Between two redraws."""
_TICKETS = 4
"""Most trials that are named where nobody says that he trains them."""


def print_states(to: Console, states: Mapping[str, State]) -> None:
    """Everything, as many lines as it takes."""
    to.print(_view(to, states, None), soft_wrap=not to.is_terminal)


def watch_states(to: Console, ask: Callable[[], Mapping[str, State]]) -> None:
    """Show what `ask` says every two seconds, until all is settled or the user interrupts, and leave the last
    of it there."""
    from rich.live import Live

    states = ask()
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        live = None
        if to.is_terminal:
            live = stack.enter_context(Live(console=to, auto_refresh=False, transient=True))
        while not all(state.settled for state in states.values()):
            if live is None:
                print_states(to, states)
                to.print()
            else:
                live.update(_view(to, states, to.height - 1), refresh=True)
            time.sleep(_SECONDS)
            states = ask()
    print_states(to, states)


def _view(to: Console, states: Mapping[str, State], height: int | None) -> RenderableType:
    """Who runs the studies, with slots and counts; the tables; the accounts. With a `height` the tables get
    the lines that the rest leaves."""
    from ablator.report.region import region

    several = len(states) > 1
    # Of many studies the tables that fill at the moment; `ablator report` has the others.
    tables = [state.filling for state in states.values() if not several or state.filling.fills]
    below = _accounts(states)
    above = _runs(to, states, None if height is None else height - _height(to, below))
    left = None
    if height is not None:
        # An empty line before each of them, and one behind the last.
        rest = height - _height(to, [*above, *below]) - len(tables) - 1
        left = rest // max(1, len(tables))
    parts = list(above)
    for filling in tables:
        parts += [Text()] if parts else []
        parts.append(region(None, filling, named=several, width=to.width, height=left))
    return Group(*parts, *([Text()] if tables else []), *below)


def _height(to: Console, parts: Sequence[RenderableType]) -> int:
    return len(to.render_lines(Group(*parts), pad=False)) if parts else 0


# ---- runs


def _runs(to: Console, states: Mapping[str, State], height: int | None) -> list[RenderableType]:
    """Each run once, with its slots and counts, which its studies share; and the trials whose tickets are out
    without anybody who says that he trains them."""
    from ablator.report.region import region

    found: dict[tuple[str, int], list[Standing]] = {}
    parts: list[RenderableType] = []
    for name, state in states.items():
        if state.live is not None:
            found.setdefault((state.live.host, state.live.pid), []).append(state.live)
            continue
        head = f"{name}: " if len(states) > 1 else ""
        parts += [Text(head + _tickets(state.running))] if state.running else []
    for said in found.values():
        newest = max(said, key=lambda one: one.updated)
        if newest.stale():
            parts.append(Text(_silence(newest), style="yellow"))
            continue
        trials = {trial.identity: trial for one in said for trial in one.running}
        whole = dataclasses.replace(newest, running=tuple(trials.values()))
        parts.append(Text(_who(newest, len(said))))
        room = None if height is None else height - 1
        parts.append(region(whole, None, width=to.width, height=room, idle=len(said) >= newest.studies))
    return parts


def _tickets(running: Sequence[tuple[str, int]]) -> str:
    """A driver that was killed leaves its tickets, so that this does not say that they run."""
    shown = ", ".join(f"{label} · seed {seed}" for label, seed in running[:_TICKETS])
    more = f", and {len(running) - _TICKETS} more" if len(running) > _TICKETS else ""
    return f"no run says how it stands; tickets are out for {shown}{more}"


def _who(said: Standing, asked: int) -> str:
    more = said.studies - asked
    of = f", together with {more} more {'study' if more == 1 else 'studies'}" if more > 0 else ""
    return f"running on {said.host}, process {said.pid}{of}; said {_ago(said.age())}"


def _silence(said: Standing) -> str:
    return (
        f"the run on {said.host} last said something {_ago(said.age())}; it may have died: "
        "`ablator run` again goes on"
    )


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


# ---- accounts


def _accounts(states: Mapping[str, State]) -> list[RenderableType]:
    """Each line begins with the study's name where there are several."""
    parts: list[RenderableType] = []
    for name, state in states.items():
        head = f"{name}: " if len(states) > 1 else ""
        parts.append(Text(head + state.account.line()))
        for label, (drawn, samples) in state.samples.items():
            parts.append(Text(f"{head}search {label}: {drawn} of {samples} samples drawn"))
    if len(states) > 1:
        accounts = [state.account for state in states.values()]
        planned, failed = sum(a.planned for a in accounts), sum(a.failed for a in accounts)
        there = planned - failed - sum(a.missing for a in accounts)
        line = f"{len(states)} studies: {there} of {planned} trials have a result"
        parts.append(Text(line + (f", {failed} failed" if failed else ""), style="bold"))
    if any(state.waiting for state in states.values()):
        parts.append(Text("MLflow has not got everything; `ablator sync` sends the rest", style="yellow"))
    return parts
