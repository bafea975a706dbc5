"""Clusters of the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def make_nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`RayNodes` of benchmarks/ray_nodes.py: a context that is a cluster on this machine."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("ray_nodes").RayNodes


@pytest.fixture
def running_cluster(make_nodes: Any) -> Iterator[str]:
    """A cluster of one node with two processors; its address."""
    with make_nodes(cpus=2) as nodes:
        yield nodes.address


@pytest.fixture
def ray_nodes(make_nodes: Any) -> Iterator[Any]:
    """A cluster of two nodes, each with one processor."""
    with make_nodes() as nodes:
        nodes.add()
        yield nodes
