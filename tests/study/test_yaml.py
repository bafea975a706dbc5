from __future__ import annotations

from pathlib import Path

import pytest

from ablator.errors import SettingError
from ablator.study import yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5E4", 5e4),
        ("0.5", 0.5),
        ("12", 12),
        ("010", 10),
        ("4:8", "4:8"),
        ("off", "off"),
        ("on", "on"),
        ("NaN", "NaN"),
        ("2026-11-22", "2026-11-22"),
        ("null", None),
        ("true", True),
        ("{64: 8}", {64: 8}),
    ],
)
def test_scalars_mean_what_a_study_means_by_them(text: str, value: object) -> None:
    read = yaml.parse(text, "here")
    assert read == value
    assert type(read) is type(value)


def test_a_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("seeds: 1\nset:\n  moto.n: 2\n  moto.n: 4\n")
    with pytest.raises(SettingError, match=r"s\.yaml:4: .*'moto\.n' is there twice \(first in line 3\)"):
        yaml.read(path, "study")


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("study: s\nbase: [a\narms: 3\n")
    with pytest.raises(SettingError, match=r"s\.yaml:3: not valid YAML"):
        yaml.read(path, "study")


def test_a_missing_file_lists_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").touch()
    with pytest.raises(SettingError, match=r"recipe .*gone\.yaml: no such file; there is: other\.yaml"):
        yaml.read(tmp_path / "gone.yaml", "recipe")


def test_code_in_a_file_is_not_run() -> None:
    with pytest.raises(SettingError, match="could not determine a constructor"):
        yaml.parse("!!python/object/apply:os.getcwd []", "here")
