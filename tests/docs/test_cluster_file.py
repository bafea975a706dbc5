"""cluster.yaml, as far as it can be checked without a cloud."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    return read


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does with a file before it asks the cloud for anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(document))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it_and_would_not_accept_a_misspelt_key(document: dict[str, Any]) -> None:
    prepared = _checked(document)
    assert prepared["available_node_types"][prepared["head_node_type"]]["max_workers"] == 0
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        _checked({**document, "idle_timeout_minute": 5})


def test_nothing_listens_to_the_world_and_everyone_needs_the_token(document: dict[str, Any]) -> None:
    everything = ".".join("0000")
    assert everything not in (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    (head,) = [line for line in document["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in document["worker_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in head
    for line in (head, worker):
        assert "RAY_AUTH_MODE=token" in line
    assert "~/.ray/auth_token" in document["file_mounts"]


def test_nodes_install_the_pinned_versions_and_refuse_to_do_without_shared_storage(
    document: dict[str, Any],
) -> None:
    setup = document["setup_commands"]
    assert "mountpoint -q /mnt/shared ||" in setup[0]
    assert any("-c constraints.txt -e" in line for line in setup)
    assert (ROOT / "constraints.txt").exists()


def test_gpu_workers_are_there_when_a_run_counts_its_slots(document: dict[str, Any]) -> None:
    workers = {k: v for k, v in document["available_node_types"].items() if k != document["head_node_type"]}
    for kind in workers.values():
        assert 1 <= kind["min_workers"] <= kind["max_workers"] <= document["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
