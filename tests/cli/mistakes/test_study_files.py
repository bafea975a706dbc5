"""What is written wrong in a study file, or in what it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Ablator = Callable[..., Result]
Refused = Callable[..., None]
Rewrite = Callable[[Path, str, str], None]

ARMS = '  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}'
SEEDS = "\nseeds: 2\n"


def spec_key(key: str, value: str) -> tuple[str, str]:
    """The study's own `set`."""
    return SEEDS, f"\nseeds: 2\nset: {{{key}: {value}}}\n"


def arm(text: str) -> tuple[str, str]:
    """Another arm instead."""
    return ARMS, f"  - {{{text}}}"


def space(dimension: str) -> tuple[str, str]:
    return arm(f"label: best, design: search, space: {{dimensions: {{{dimension}}}}}")


# What is written wrong: the change of the study file, and what the error says.
DOCUMENTS = {
    "unknown key": (("\nquestion:", "\nquestoin:"), ["questoin", "did you mean 'question'", "known: arms"]),
    "unknown key of an arm": (("design: grid", "desing: grid"), ["arms[0].desing", "did you mean 'design'"]),
    "unknown key of the spec": (spec_key("train.epoch", "3"), ["set: train.epoch", "did you mean 'epochs'"]),
    "unknown section": (spec_key("trian.epochs", "3"), ["'trian'", "did you mean 'train'"]),
    "unknown key in a set": (arm("label: x, set: {moto.entities: 3}"), ["'x': moto.entities", "known: "]),
    "unknown key in a space": (
        space("moto.taux: {kind: float, low: 0.1, high: 1}"),
        ["'best': space: moto.taux", "did you mean 'tau'"],
    ),
    "unknown key of a dimension": (
        space("moto.n: {kind: int, lo: 1, high: 4}"),
        ["space.dimensions.moto.n.lo", "did you mean 'low'"],
    ),
    "unknown kind of dimension": (
        space("moto.n: {kind: integer, low: 1, high: 4}"),
        ["moto.n.kind", "'integer'", "did you mean 'int'"],
    ),
    "dimension outside its range": (
        space("moto.n: {kind: int, low: 0, high: 4}"),
        ["moto.n", "greater than or equal to 1", "not 0"],
    ),
    "dimension upside down": (space("moto.n: {kind: int, low: 8, high: 4}"), ["low 8 is above high 4"]),
    "choice that is none": (
        space("moto.partition: {kind: categorical, choices: [soft, medium]}"),
        ["moto.partition", "'soft' or 'hard'", "'medium'"],
    ),
    "condition on nothing": (
        space("moto.n: {kind: int, low: 1, high: 4, when: {motto: on}}"),
        ["unknown dimension 'motto'"],
    ),
    "unknown sampler": (
        arm("label: x, design: search, sampler: tpee, space: all.yaml"),
        ["arms[0].sampler", "'tpee'", "did you mean 'tpe'"],
    ),
    "space that is not there": (
        arm("label: x, design: search, space: spaces/all.yaml"),
        ["spaces/all.yaml", "no such file", "no folder"],
    ),
    "wrong type": (spec_key("train.lr", "fast"), ["train.lr", "must be a number", "'fast'"]),
    "value out of range": (spec_key("model.drop_path", "1.5"), ["model.drop_path", "less than 1", "1.5"]),
    "not a number": (spec_key("train.lr", ".nan"), ["train.lr", "finite", "nan"]),
    "list without a design": (
        arm("label: x, set: {moto.n: [2, 4]}"),
        ["moto.n", "whole number", "design: grid"],
    ),
    "unknown loss": (spec_key("tokenprop.loss", "l3"), ["tokenprop.loss", "'l3'", "'perceptual'"]),
    "unknown task": (("\nseeds:", "\ntask: clasification\nseeds:"), ["did you mean 'classification'"]),
    "unknown design": (("design: grid", "design: gird"), ["'gird'", "did you mean 'grid'"]),
    "field of another design": (
        ("design: grid", "design: grid, sampler: random"),
        ["sampler belongs to design search, not to grid"],
    ),
    "zip of unequal lists": (
        arm('label: "{n} {tau}", design: zip, set: {moto.n: [2, 4], moto.tau: [0.1, 0.2, 0.3]}'),
        ["moto.n has 2, moto.tau has 3"],
    ),
    "list without points": (arm("label: x, design: list"), ["design list needs `points`"]),
    "search without a space": (arm("label: x, design: search"), ["design search needs `space`"]),
    "label of an unknown field": (("n = {n}", "n = {m}"), ["{m} is not set here", "set here: moto.n"]),
    "two rows of one label": (("n = {n}", "n"), ["two rows are called 'n'", "{key}"]),
    "label of the baseline": (("label: base", "label: n = 2"), ["two rows are called 'n = 2'"]),
    "arm that sets nothing": (arm("label: x"), ["'x' sets nothing"]),
    "arm that changes nothing": (arm("label: x, set: {train.optimizer: adamw}"), ["'x' changes nothing"]),
    "no arms": (("arms:\n" + ARMS, "arms: []"), ["arms", "at least 1"]),
    "arms missing": (("arms:\n" + ARMS + "\n", ""), ["arms: is needed and missing"]),
    "seed twice": ((SEEDS, "\nseeds: [1, 1]\n"), ["seeds", "different whole numbers", "[1, 1]"]),
    "negative seeds": ((SEEDS, "\nseeds: -1\n"), ["seeds", "not -1"]),
    "seeds in words": ((SEEDS, "\nseeds: three\n"), ["seeds", "a whole number or a list", "'three'"]),
    "unknown stop": ((SEEDS, "\nseeds: 2\nstop: ahsa\n"), ["did you mean 'asha'"]),
    "reported row that is none": (
        ("reported: {baseline: 79.8, n = 2: 80.8}", "reported: {n = 3: 80}"),
        ["no row is called 'n = 3'", "rows: 'base'"],
    ),
    "name that is no name": (("study: tiny", "study: Tiny Study"), ["lower-case letters", "'Tiny Study'"]),
    "key twice": ((SEEDS, "\nseeds: 2\nseeds: 3\n"), ["tiny.yaml:9", "'seeds' is there twice", "line 8"]),
    "not YAML": ((SEEDS, "\nseeds: [2\n"), ["tiny.yaml:", "not valid YAML"]),
    "characters that YAML forbids": (("Does it", "Does\x00 it"), ["not valid YAML", "#x0000"]),
    "unknown base": ((SEEDS, "\nbase: recipes/deit.yaml\n"), ["recipes/deit.yaml", "no such file"]),
    "profile that sets what an arm declares": (
        ("set: {train.epochs: 8}", "set: {moto.n: 3}"),
        ["conflicting profile laptop", "moto.n", "'n = 2'", "`map`"],
    ),
    "profile that makes two rows equal": (
        ("set: {train.epochs: 8}", "map: {moto.n: {2: 4}}"),
        ["conflicting profile laptop", "moto.n = 2 to 4"],
    ),
    "unknown key of a profile": (
        ("set: {train.epochs: 8}", "sets: {train.epochs: 8}"),
        ["profiles.laptop.sets", "did you mean 'set'"],
    ),
}


@pytest.mark.parametrize(("change", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_study_files(
    ablator: Ablator,
    study: Path,
    change: tuple[str, str],
    said: list[str],
    refused: Refused,
    rewrite: Rewrite,
) -> None:
    rewrite(study, *change)
    refused(ablator("run", study, "-p", "laptop"), *said)


@pytest.mark.parametrize(
    ("content", "said"), [("", "empty"), ("- study: x\n", "a list"), ("tiny\n", "text")], ids=repr
)
def test_a_file_that_is_no_study(
    ablator: Ablator, study: Path, content: str, said: str, refused: Refused
) -> None:
    study.write_text(content, encoding="utf-8")
    refused(ablator("plan", study), "mapping of keys", said)


def test_several_mistakes_are_told_at_once(ablator: Ablator, study: Path, rewrite: Rewrite) -> None:
    rewrite(study, "\nquestion:", "\nquestoin:")
    rewrite(study, "\nseeds:", "\nseedz:")
    result = ablator("run", study)
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "  questoin", "  seedz"]


def test_recipes_in_a_circle(ablator: Ablator, study: Path, refused: Refused, rewrite: Rewrite) -> None:
    rewrite(study, SEEDS, "\nbase: a.yaml\n")
    study.with_name("a.yaml").write_text("base: b.yaml\n", encoding="utf-8")
    study.with_name("b.yaml").write_text("base: a.yaml\n", encoding="utf-8")
    refused(ablator("run", study), "circle", "a.yaml -> b.yaml -> a.yaml")


def test_a_recipe_with_an_unknown_key(
    ablator: Ablator, study: Path, refused: Refused, rewrite: Rewrite
) -> None:
    rewrite(study, SEEDS, "\nbase: a.yaml\n")
    study.with_name("a.yaml").write_text("model: {nam: x}\n", encoding="utf-8")
    refused(ablator("run", study), "base: model.nam", "did you mean 'name'")


def test_an_unknown_study_file_names_its_neighbours(ablator: Ablator, study: Path, refused: Refused) -> None:
    refused(ablator("run", study.with_name("tiney.yaml")), "no such file", "tiny.yaml")
