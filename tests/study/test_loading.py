from __future__ import annotations

from pathlib import Path

import pytest

from ablator.errors import SettingError
from ablator.plan.planning import plan
from ablator.study.loading import load, resolve
from ablator.study.schema import Arms, Study
from ablator.study.spaces import SpaceDocument

_ARMS = "arms: [{label: a, set: {moto.n: 2}}]\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_recipes_build_on_recipes_relative_to_themselves(tmp_path: Path) -> None:
    _write(tmp_path / "recipes/base.yaml", "train: {epochs: 300, lr: 1e-3}\nmoto: {n: 4}\n")
    _write(tmp_path / "recipes/more/short.yaml", "base: ../base.yaml\ntrain: {epochs: 3}\nmoto: null\n")
    study = load(
        _write(tmp_path / "experiments/s.yaml", "study: s\nbase: ../recipes/more/short.yaml\n" + _ARMS)
    )
    assert study.base == {"train": {"epochs": 3, "lr": 1e-3}, "moto": None}
    assert study.file == str(tmp_path / "experiments/s.yaml")


def test_recipes_in_a_circle_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "base: b.yaml\n")
    _write(tmp_path / "b.yaml", "base: a.yaml\n")
    with pytest.raises(SettingError, match=r"in a circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load(_write(tmp_path / "s.yaml", "study: s\nbase: a.yaml\n" + _ARMS))


def test_a_missing_base_says_who_asked_and_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"s\.yaml: base: recipe .*gone\.yaml: no such file; there is: s\.yaml"
    ):
        load(_write(tmp_path / "s.yaml", "study: s\nbase: gone.yaml\n" + _ARMS))


def test_profiles_are_found_above_the_study_and_overlaid_by_it(tmp_path: Path) -> None:
    _write(
        tmp_path / "recipes/profiles/laptop.yaml",
        "set: {train.epochs: 3, data: {name: digits}}\nmap: {moto.n: {8: 4}}\nseeds: 2\n",
    )
    own = "profiles: {laptop: {set: {train: {epochs: 1}}, map: {moto.n: {16: 5}}}}\n"
    study = load(_write(tmp_path / "deep/er/s.yaml", "study: s\n" + own + _ARMS))
    laptop = study.profiles["laptop"]
    assert laptop.set == {"train.epochs": 1, "data.name": "digits"}
    assert laptop.map == {"moto.n": {"8": 4, "16": 5}}
    assert laptop.seeds == 2
    assert "gpu" in study.profiles, "profiles that come with Ablator are there as well"


def test_a_key_that_the_study_maps_leaves_the_profiles_set(tmp_path: Path) -> None:
    _write(tmp_path / "recipes/profiles/laptop.yaml", "set: {train: {lr: 1.5e-3, epochs: 3}}\n")
    own = "profiles: {laptop: {map: {train.lr: {0.0005: 1.5e-3, 0.25: 0.05}}}}\n"
    arms = "arms: [{label: sgd, set: {train: {optimizer: sgd, lr: 0.25}}}]\n"
    study = load(_write(tmp_path / "s.yaml", "study: s\nbase: {train: {lr: 5e-4}}\n" + own + arms))
    assert study.profiles["laptop"].set == {"train.epochs": 3}
    assert resolve(study) == study
    made = plan(study, profile="laptop", fingerprint=lambda _: "f")
    assert {(t.label, t.spec.train.lr) for t in made.trials} == {("baseline", 1.5e-3), ("sgd", 0.05)}


def test_a_study_built_in_python_is_the_same_object(tmp_path: Path) -> None:
    path = _write(tmp_path / "s.yaml", "study: s\nbase: {train: {epochs: 3}}\n" + _ARMS)
    built = Study(study="s", base={"train": {"epochs": 3}}, arms=(Arms(label="a", set={"moto.n": 2}),))
    assert resolve(built) == load(path)
    assert resolve(resolve(built)) == resolve(built)


def test_a_search_space_is_read_in(tmp_path: Path) -> None:
    _write(tmp_path / "spaces/n.yaml", "dimensions: {moto.n: {kind: int, low: 1, high: 4}}\n")
    arms = "arms: [{label: a, design: search, space: spaces/n.yaml}]\n"
    space = load(_write(tmp_path / "s.yaml", "study: s\n" + arms)).arms[0].space
    assert isinstance(space, SpaceDocument)
    assert space.dimensions["moto.n"].high == 4


@pytest.mark.parametrize("name", ["My Study", "../x", "Größe", ""])
def test_a_name_fits_files_and_urls(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match=r"study: "):
        load(_write(tmp_path / "s.yaml", f"study: '{name}'\n" + _ARMS))


def test_a_study_file_does_not_say_where_it_lies(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="file: a study file does not name itself"):
        load(_write(tmp_path / "s.yaml", "study: s\nfile: elsewhere.yaml\n" + _ARMS))
