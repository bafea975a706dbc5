"""The cluster files, as far as they can be checked without machines. tests/remote brings one of them up."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "clusters/onpremise.yaml", "clusters/one_machine.yaml")


def _read(file: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module", params=FILES)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return _read(request.param)


@pytest.fixture(scope="module")
def cloud() -> dict[str, Any]:
    return _read("cluster.yaml")


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does with a file before it asks anybody for anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(document))
    validate_config(prepared)
    return prepared


def _starts(document: dict[str, Any]) -> list[str]:
    lines = document["head_start_ray_commands"] + document["worker_start_ray_commands"]
    return [line for line in lines if "ray start" in line]


def test_these_are_all_the_files() -> None:
    assert {f"clusters/{path.name}" for path in (ROOT / "clusters").iterdir()} == set(FILES[1:])


def test_ray_accepts_it_and_would_not_accept_a_misspelt_key(document: dict[str, Any]) -> None:
    prepared = _checked(document)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        _checked({**document, "idle_timeout_minute": 5})


def test_nothing_listens_to_the_world_and_everyone_needs_the_token(document: dict[str, Any]) -> None:
    everything = ".".join("0000")
    assert everything not in yaml.safe_dump(document)
    head, *_ = _starts(document)
    assert "--dashboard-host=127.0.0.1" in head
    for line in _starts(document):
        assert line.startswith(". ~/.ablator.sh; ")
    assert "~/.ray/auth_token" in document["file_mounts"]


def test_ray_is_stopped_before_it_is_started(document: dict[str, Any]) -> None:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        stops = ["ray stop" in line for line in document[key]]
        assert stops in ([True, False], [])


def test_every_process_has_token_path_store_and_data(document: dict[str, Any], tmp_path: Path) -> None:
    """The setup's own line is run, and what it wrote is read as `ray start` reads it."""
    (line,) = [line for line in document["setup_commands"] if line.startswith("printf")]
    shown = 'echo "$RAY_AUTH_MODE $ABLATOR_STORE $ABLATOR_DATA $PATH"'
    done = subprocess.run(
        ["bash", "-c", f"{line}; . ~/.ablator.sh; {shown}"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    mode, store, data, path = done.stdout.split()
    assert mode == "token"
    assert Path(store).is_absolute()
    assert Path(data).is_absolute()
    assert path == f"{tmp_path}/venv/bin:/usr/bin:/bin"


def test_nodes_install_the_pinned_versions(document: dict[str, Any]) -> None:
    assert any("-c constraints.txt -e" in line for line in document["setup_commands"])
    assert (ROOT / "constraints.txt").exists()


@pytest.mark.parametrize("file", FILES[:2])
def test_several_nodes_refuse_to_do_without_shared_storage(file: str) -> None:
    first = _read(file)["setup_commands"][0]
    assert "/mnt/shared ||" in first
    assert "exit 1" in first


def test_gpu_workers_are_there_when_a_run_counts_its_slots(cloud: dict[str, Any]) -> None:
    head = cloud["head_node_type"]
    assert _checked(cloud)["available_node_types"][head]["max_workers"] == 0
    workers = {k: v for k, v in cloud["available_node_types"].items() if k != head}
    for kind in workers.values():
        assert 1 <= kind["min_workers"] <= kind["max_workers"] <= cloud["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_machines_of_your_own_are_all_started() -> None:
    """By the first autoscaler: the second one leaves the workers where they are. The head is no worker."""
    for file in FILES[1:]:
        assert any("RAY_enable_autoscaler_v2=0" in line for line in _read(file)["setup_commands"])
        provider = _read(file)["provider"]
        assert provider["head_ip"] not in provider["worker_ips"]
