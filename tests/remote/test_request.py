"""What is asked of a cluster, and under which name."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ablator import __version__
from ablator.remote.bundle import Bundle
from ablator.remote.frames import Frames, framed
from ablator.remote.request import Request, is_of, submission_id

BUNDLE = Bundle(files={"a.yaml": b"study: a"}, studies=("a.yaml",), names=("a",))


def _request(**changes: Any) -> Request:
    fields: dict[str, Any] = {"command": "run", "bundle": BUNDLE, "options": (), "what": ()}
    return Request(**{**fields, **changes})


def test_a_run_there_is_the_same_command_and_joins_the_cluster() -> None:
    options = ("--row", "n = 8, soft", "--set", "train.epochs=4", "--json")
    first, *words = shlex.split(_request(options=options, columns=97).entrypoint())
    assert first == "COLUMNS=97"
    assert words == [
        *("python", "-m", "ablator.remote.inside", __version__, "run", "a.yaml", *options),
        *("--address", "auto"),
    ]


def test_what_trains_nothing_joins_nothing() -> None:
    assert "--address" not in _request(command="status").entrypoint()


def test_a_key_is_that_of_studies_and_scale_and_not_of_machines() -> None:
    what = ("--profile", "laptop", "--set", "train.epochs=4")
    asked = _request(what=what)
    assert _request(what=what, options=("--slots", "3"), columns=80).key == asked.key
    edited = dataclasses.replace(BUNDLE, files={"a.yaml": b"study: a # edited"})
    others = [
        _request(),
        _request(what=(*what, "--set", "train.lr=1")),
        _request(what=what, bundle=edited),
        _request(what=what, command="report"),
    ]
    assert len({other.key for other in others} | {asked.key}) == 5
    assert asked.key.startswith("ablator-run-a-")


@given(st.lists(st.integers(1, 10**6), max_size=8), st.text(max_size=30))
def test_an_id_is_new_and_known_as_one_of_its_key(numbers: list[int], name: str) -> None:
    key = _request(bundle=dataclasses.replace(BUNDLE, names=(name,))).key
    taken = [f"{key}-{number}" for number in numbers]
    made = submission_id(key, [*taken, "raysubmit_other", f"{key}x-99999999"])
    assert made not in taken
    assert is_of(made, key)
    assert all(is_of(one, key) for one in taken)
    assert not is_of(made, f"{key}-1")
    assert made.isprintable()
    assert "/" not in made


@given(st.binary(max_size=20_000))
def test_what_belongs_to_a_program_survives_the_log(content: bytes) -> None:
    frames = Frames()
    for line in framed("stdout", content):
        assert line.endswith("\n")
        assert len(line) < 4000
        assert frames.take(line.rstrip("\n"))
    assert not frames.take("1/4 trials")
    assert frames.content("stdout") == content
    assert frames.content("files") == b""
