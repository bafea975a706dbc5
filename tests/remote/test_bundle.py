"""What is sent to a cluster plans there to what it plans to here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablator import api
from ablator.errors import SettingError
from ablator.registry import REGISTRIES
from ablator.remote.bundle import bundle_of

ROOT = Path(__file__).resolve().parents[2]

TINY = """
study: tiny
source: "a book, Table 1"
question: Does it help?
base: ../recipes/deit_s_imagenet.yaml
baseline: {label: base}
arms:
  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}
seeds: 2
report: {metric: top1}
"""

PLUGIN = """
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS


@settings
class ShippedSettings:
    '''Nothing.'''

    strength: float = 1.0


def attach(*arguments):
    raise AssertionError


COMPONENTS.add("shipped", attach, settings=ShippedSettings)
"""


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    """The registries belong to the process: plug-ins of one test are gone for the next."""
    yield
    for origin in {entry.origin for registry in REGISTRIES for entry in registry if entry.origin}:
        for registry in REGISTRIES:
            registry.drop(origin)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a user's own: recipes, profiles and spaces beside experiments, and much else."""
    place = tmp_path / "project"
    for name in ("recipes", "search_spaces"):
        shutil.copytree(ROOT / name, place / name)
    (place / "experiments").mkdir()
    (place / "experiments" / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (place / "secret.txt").write_text("not for anybody else", encoding="utf-8")
    monkeypatch.chdir(place)
    return place


def test_it_plans_to_the_same_trials_elsewhere_and_holds_what_is_read_alone(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = api.plan(Path("experiments/tiny.yaml"), profile="laptop")
    bundle = bundle_of([Path("experiments/tiny.yaml")], "laptop", ())
    assert bundle.studies == ("experiments/tiny.yaml",)
    assert bundle.names == ("tiny",)
    assert {name.split("/")[0] for name in bundle.files} == {"experiments", "recipes"}
    assert "recipes/swin_imagenet.yaml" not in bundle.files
    there = tmp_path / "there"
    bundle.write(there)
    shutil.rmtree(project)
    monkeypatch.chdir(there)
    made = api.plan(Path(bundle.studies[0]), profile="laptop")
    assert list(made.unique()) == list(here.unique())


def test_profiles_of_the_project_go_along(project: Path, tmp_path: Path) -> None:
    profile = project / "recipes" / "profiles" / "mine.yaml"
    profile.write_text("about: Mine.\nset: {train: {epochs: 3}}\nseeds: 1\n", encoding="utf-8")
    bundle = bundle_of([Path("experiments/tiny.yaml")], "mine", ())
    assert bundle.files["recipes/profiles/mine.yaml"] == profile.read_bytes()


def test_of_a_study_alone_nothing_else_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = TINY.replace("base: ../recipes/deit_s_imagenet.yaml\n", "")
    Path("alone.yaml").write_text(text, encoding="utf-8")
    bundle = bundle_of([Path("alone.yaml")], "laptop", ())
    assert dict(bundle.files) == {"alone.yaml": text.encode()}


def test_a_folder_stays_a_folder_and_a_search_space_goes_along(project: Path) -> None:
    (project / "experiments" / "search.yaml").write_text(
        TINY.replace("study: tiny", "study: search").replace(
            '{label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}',
            "{label: found, design: search, space: ../search_spaces/moto.yaml, samples: 4}",
        ),
        encoding="utf-8",
    )
    bundle = bundle_of([Path("experiments")], "laptop", ())
    assert bundle.studies == ("experiments",)
    assert bundle.names == ("search", "tiny")
    assert "search_spaces/moto.yaml" in bundle.files


def test_studies_that_a_study_starts_from_go_along(project: Path) -> None:
    (project / "below").mkdir()
    shutil.copy(project / "experiments" / "tiny.yaml", project / "below" / "start.yaml")
    (project / "experiments" / "on.yaml").write_text(
        TINY.replace("study: tiny", "study: on").replace(
            "seeds: 2", 'set: {model.weights: "study:../below/start.yaml#base"}\nseeds: 2'
        ),
        encoding="utf-8",
    )
    bundle = bundle_of([Path("experiments/on.yaml")], "laptop", ())
    assert "below/start.yaml" in bundle.files


def test_plug_ins_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN, encoding="utf-8")
    text = TINY.replace("base: ../recipes/deit_s_imagenet.yaml", "plugins: [mine.py]")
    Path("study.yaml").write_text(text, encoding="utf-8")
    assert set(bundle_of([Path("study.yaml")], "laptop", ()).files) == {"study.yaml", "mine.py"}


def test_its_digest_is_that_of_names_and_contents(project: Path) -> None:
    def digest() -> str:
        return bundle_of([Path("experiments/tiny.yaml")], "laptop", ()).digest

    first = digest()
    assert digest() == first
    study = project / "experiments" / "tiny.yaml"
    study.write_text(TINY.replace("[2, 4]", "[2, 8]"), encoding="utf-8")
    assert digest() != first


@pytest.mark.parametrize(
    ("profile", "overrides", "said"),
    [
        ("lapto", (), "did you mean 'laptop'"),
        ("laptop", ("train.epoch=3",), "train.epoch"),
        ("laptop", ("model.weights=mine.pth",), "'mine.pth' is relative to a folder of this machine"),
    ],
)
def test_mistakes_show_before_anything_is_sent(
    project: Path, profile: str, overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        bundle_of([Path("experiments/tiny.yaml")], profile, overrides)


def test_a_secret_of_this_machine_is_not_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "a-secret-of-mine")
    with pytest.raises(SettingError, match="the value of MY_TOKEN"):
        bundle_of([Path("experiments/tiny.yaml")], "laptop", ("data.root=/a-secret-of-mine",))
