"""A study's own code: found, loaded, refused, and part of the identity of what uses it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ablator.errors import SettingError
from ablator.plan.planning import Plan, plan
from ablator.plan.plugins import bring
from ablator.plan.spec import TrialSpec, optional_sections
from ablator.registry import COMPONENTS, REGISTRIES
from ablator.results.store import Store
from ablator.study.schema import Arms, Study

GAIN = """
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS

@settings
class ShiftSettings:
    by: float = 1.0

def attach(seams, settings):
    raise AssertionError("planning builds nothing")

COMPONENTS.add("shift", attach, settings=ShiftSettings)
"""


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    """The registries belong to the process: plug-ins of one test are gone for the next."""
    yield
    for origin in {entry.origin for registry in REGISTRIES for entry in registry if entry.origin}:
        for registry in REGISTRIES:
            registry.drop(origin)


def planned(folder: Path, plugins: tuple[str, ...] = ("shift.py",), **changes: Any) -> Plan:
    study = Study(
        study="own",
        base={"data": {"name": "digits", "image_size": 16}},
        arms=changes.pop("arms", (Arms(label="shifted", set={"shift.by": 2.0}),)),
        seeds=1,
        plugins=plugins,
        file=str(folder / "own.yaml"),
        **changes,
    )
    return plan(study, fingerprint=lambda data: "f")


def write(folder: Path, text: str, name: str = "shift.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_only_trials_that_use_it_carry_its_code(tmp_path: Path) -> None:
    alone = plan(
        Study(
            study="own",
            base={"data": {"name": "digits", "image_size": 16}},
            arms=(Arms(label="moto", set={"moto.n": 2}),),
            seeds=1,
        ),
        fingerprint=lambda data: "f",
    )
    write(tmp_path, GAIN)
    first = planned(tmp_path)
    assert first.trials[0].identity == alone.trials[0].identity, "the baseline's trials are shared as ever"
    assert first.trials[1].spec.plugins == {"shift": first.plugins[0].origin}
    assert planned(tmp_path).trials[1].identity == first.trials[1].identity

    write(tmp_path, GAIN + "# changed\n")
    second = planned(tmp_path)
    assert second.trials[0].identity == first.trials[0].identity
    assert second.trials[1].identity != first.trials[1].identity, "changed code is a changed trial"
    with pytest.raises(SettingError, match=r"other code of shift.*plan the study again"):
        TrialSpec.from_json(first.trials[1].spec.to_json())

    write(tmp_path, GAIN)
    assert planned(tmp_path).trials[1].identity == first.trials[1].identity, "and back again"


def test_a_search_with_other_code_is_another_search(tmp_path: Path) -> None:
    space: Any = {"dimensions": {"shift.by": {"kind": "float", "low": 0.5, "high": 2.0}}}
    arms = (Arms(label="best", design="search", space=space),)
    write(tmp_path, GAIN)
    ids = {planned(tmp_path, arms=arms).searches[0].id for _ in range(2)}
    write(tmp_path, GAIN + "# changed\n")
    assert len(ids | {planned(tmp_path, arms=arms).searches[0].id}) == 2


def test_it_runs_behind_what_ablator_brings(tmp_path: Path) -> None:
    write(tmp_path, GAIN)
    arms = (Arms(label="both", set={"shift.by": 2.0, "moto.n": 2}),)
    assert list(planned(tmp_path, arms=arms).trials[1].spec.components) == ["moto", "shift"]


def test_a_worker_loads_it_from_the_store(tmp_path: Path) -> None:
    write(tmp_path, GAIN)
    made = planned(tmp_path)
    store = Store.open(tmp_path / "store")
    assert made.plugins[0].source is not None
    assert store.keep_plugin(made.plugins[0].source) == made.plugins[0].origin
    spec = made.trials[1].spec
    COMPONENTS.drop(made.plugins[0].origin)  # as in another process
    with pytest.raises(SettingError, match="unknown section 'shift'"):
        TrialSpec.from_json(spec.to_json())
    bring(spec.to_json(), store.plugin)
    assert TrialSpec.from_json(spec.to_json()).identity("f") == made.trials[1].identity

    COMPONENTS.drop(made.plugins[0].origin)
    store.plugin(made.plugins[0].origin).write_text(GAIN + "# damaged\n")
    with pytest.raises(SettingError, match="is damaged"):
        bring(spec.to_json(), store.plugin)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "shift.py: registers nothing"),
        ("x = 1\n1 / 0\n", "shift.py, line 2: ZeroDivisionError"),
        ("def f(:\n", "shift.py, line 1: SyntaxError"),
        ("import nowhere_at_all\n", "line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (GAIN.replace('"shift"', '"moto"'), "component 'moto' is registered already.*another name"),
        (GAIN.replace('"shift"', '"train"'), "section 'train' is there already; taken: task, seed"),
        (GAIN.replace('"shift"', '"tokenprop"'), "section 'tokenprop' is there already"),
        (GAIN.replace('"shift"', '"My-shift"'), "lower-case letters"),
        (GAIN.replace(", settings=ShiftSettings", ""), "'shift' is a section.*needs settings="),
        ("import helpers\n" + GAIN, "line 1 imports 'helpers', which lies beside it"),
        ("from . import helpers\n" + GAIN, "line 1 imports"),
    ],
)
def test_what_is_wrong_with_it_is_said_and_nothing_of_it_stays(
    tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path, "y = 1\n", "helpers.py")
    write(tmp_path, text)
    before = optional_sections()
    with pytest.raises(SettingError, match=rf"(?s)own.yaml: plugins\[0\]: .*{message}"):
        planned(tmp_path)
    assert optional_sections() == before


def test_two_files_cannot_share_a_name_and_a_missing_one_is_named(tmp_path: Path) -> None:
    write(tmp_path, GAIN)
    write(tmp_path, GAIN + "# another\n", "other.py")
    with pytest.raises(SettingError, match=r"plugins\[1\]: other.py.*'shift' is registered already, by"):
        planned(tmp_path, ("shift.py", "other.py"))
    with pytest.raises(SettingError, match=r"plugins\[0\]: .*nowhere.py cannot be read \(No such file"):
        planned(tmp_path, ("nowhere.py",))
    with pytest.raises(SettingError, match=r"no installed package offers a plug-in 'shift'.*ends in .py"):
        planned(tmp_path, ("shift",))


def test_a_study_says_what_it_uses(tmp_path: Path) -> None:
    write(tmp_path, GAIN)
    planned(tmp_path)
    with pytest.raises(SettingError, match="shift comes from a plug-in that this study does not name"):
        planned(tmp_path, ())


def test_an_installed_package_is_known_by_its_version(tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path, GAIN, "shift_package.py")
    info = tmp_path / "shift_package-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shift-package\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[ablator.plugins]\nshift = shift_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = planned(tmp_path, ("shift",)).trials[1].spec
    assert spec.plugins == {"shift": "shift==1.5"}
    assert metadata.version("shift-package") == "1.5"

    COMPONENTS.drop("shift==1.5")
    sys.modules.pop("shift_package")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shift-package\nVersion: 1.6\n")
    with pytest.raises(SettingError, match=r"shift==1.5 was planned with, and this machine has shift==1.6"):
        bring(spec.to_json(), lambda digest: tmp_path / digest)
    sys.modules.pop("shift_package")


def test_planning_a_plug_in_without_torch_loads_no_torch(tmp_path: Path) -> None:
    write(tmp_path, GAIN)
    code = (
        "import sys; from pathlib import Path; import ablator.plan.spec\n"
        "from ablator.plan.plugins import load_plugins\n"
        f"load_plugins(['shift.py'], Path({str(tmp_path)!r}), 'here')\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
