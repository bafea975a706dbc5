"""Designs over components, and nested grids: laws over drawn blocks, and what is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablator.errors import SettingError
from ablator.plan.comparing import check_row
from ablator.plan.designs import rows
from ablator.plan.differences import differences
from ablator.plan.planning import Plan
from ablator.study.overlay import overlaps
from ablator.study.schema import Arms

Planned = Callable[..., Plan]
_VALUES: dict[str, Any] = {
    "moto.n": 4,
    "moto.tau": 0.5,
    "tokenprop.weight": 0.01,
    "tokenizer.kind": "intra",
    "norm.kind": "batch",
    "train.lr": 0.1,
    "model.options.depth": 3,
}
_KEYS = st.lists(st.sampled_from(sorted(_VALUES)), min_size=2, unique=True).filter(
    lambda keys: len({key.partition(".")[0] for key in keys}) > 1
)


def _set(keys: list[str]) -> dict[str, Any]:
    return {key: _VALUES[key] for key in keys}


def _plan(planned: Planned, **arms: Any) -> Plan:
    return planned({"arms": [arms], "seeds": 2})


@settings(max_examples=15)
@given(keys=_KEYS)
def test_each_loco_row_differs_from_the_full_one_in_exactly_its_component(
    planned: Planned, keys: list[str]
) -> None:
    made = _plan(planned, label="without {component}", design="loco", set=_set(keys))
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    full = made.arms[1]
    assert [arm.label for arm in made.arms[2:]] == [f"without {name}" for name in sections]
    assert (full.label, full.kind, full.against) == ("full", "arm", "baseline")
    assert len(made.unique()) == 2 * (2 + len(sections))
    for arm, section in zip(made.arms[2:], sections, strict=True):
        assert (arm.against, arm.removes) == ("full", True)
        found = differences(made.of(full)[0].spec, made.of(arm)[0].spec)
        assert found
        assert {key.partition(".")[0] for key in found} == {section}
        assert all(any(overlaps(key, said) for said in arm.changes) for key in found)
        # What is left out is as in the baseline.
        back = differences(made.trials[0].spec, made.of(arm)[0].spec)
        assert section not in {key.partition(".")[0] for key in back}


@settings(max_examples=15)
@given(keys=_KEYS, data=st.data())
def test_pairwise_has_every_combination_once(planned: Planned, keys: list[str], data: st.DataObject) -> None:
    k = len({key.partition(".")[0] for key in keys})
    order = data.draw(st.integers(2, k))
    made = _plan(planned, label="{components}", design="pairwise", set=_set(keys), order=order)
    count = sum(math.comb(k, size) for size in range(1, order + 1))
    assert order > 2 or count == k + k * (k - 1) // 2
    assert len(made.arms) == 1 + count
    assert len({arm.label for arm in made.arms}) == 1 + count
    assert len(made.unique()) == 2 * (1 + count)
    assert len(made.interactions) == count - k
    labels = {arm.label for arm in made.arms}
    for one in made.interactions:
        assert {label for _, label in one.terms} <= labels
        assert sum(sign for sign, _ in one.terms) == 0, "what all rows have in common cancels"


@settings(max_examples=15)
@given(keys=_KEYS, cumulative=st.booleans())
def test_add_one_ends_with_all_and_names_every_component(
    planned: Planned, keys: list[str], cumulative: bool
) -> None:
    made = _plan(planned, label="+ {component}", design="add_one", set=_set(keys), cumulative=cumulative)
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    added = made.arms[1:]
    assert len(added) == len(sections) + (0 if cumulative else 1)
    assert added[-1].label == "full"
    specs = [made.of(arm)[0].spec for arm in made.arms]
    before = specs[:-1] if cumulative else [specs[0]] * len(added)
    steps = [
        {key.partition(".")[0] for key in differences(a, b)} for a, b in zip(before, specs[1:], strict=True)
    ]
    assert steps[: len(sections) - cumulative] == [{s} for s in sections[: len(sections) - cumulative]]
    assert steps[-1] == ({sections[-1]} if cumulative else set(sections))
    against = [arm.against for arm in added]
    assert against == (
        ["baseline", *(arm.label for arm in added[:-1])] if cumulative else ["baseline"] * len(added)
    )


def test_components_may_be_named_gathered_and_nested(planned: Planned) -> None:
    made = _plan(
        planned,
        label="no {component}",
        design="loco",
        full="everything",
        set={"moto.n": 4, "moto.tau": 0.5, "tokenprop.weight": 0.01, "train.lr": 0.1},
        components={"MoTo": "moto", "tau": "moto.tau", "loss and rate": ["tokenprop", "train.lr"]},
    )
    assert [arm.label for arm in made.arms[1:]] == ["everything", "no MoTo", "no tau", "no loss and rate"]
    _, _, moto, tau, both = [made.of(arm)[0].spec for arm in made.arms]
    assert (moto.components, moto.train.lr) == ({}, 0.1)
    assert (tau.components["moto"].n, tau.components["moto"].tau) == (4, 0.1)
    assert (both.objectives, both.train.lr) == ({}, 5e-4)
    listed = Arms(
        label="{component}", design="loco", set={"a.x": 1, "b.y": 2, "c.z": 3}, components=("a", ("b", "c.z"))
    )
    assert [row.label for row in rows(listed, "f")] == ["full", "a", "b + c.z"]


def test_what_is_left_out_goes_back_to_what_the_baseline_has(planned: Planned) -> None:
    made = planned(
        {
            "baseline": {"set": {"moto.n": 2, "train.lr": 0.3}},
            "arms": [
                {
                    "label": "without {component}",
                    "design": "loco",
                    "set": {"moto.n": 16, "train.lr": 0.1, "norm.kind": "batch"},
                }
            ],
        }
    )
    changes = {arm.label: arm.changes for arm in made.arms[2:]}
    assert changes == {
        "without moto": {"moto.n": 2},
        "without train": {"train.lr": 0.3},
        "without norm": {"norm": None},
    }


def test_designs_over_components_may_start_from_further_baselines(planned: Planned) -> None:
    made = planned(
        {
            "arms": [
                {"label": "wide", "baseline": True, "set": {"model.options.embed_dim": 96}},
                {
                    "label": "wide, {components}",
                    "design": "pairwise",
                    "against": "wide",
                    "set": {"moto.n": 4, "norm.kind": "batch"},
                },
            ]
        }
    )
    assert [arm.against for arm in made.arms] == [None, None, "wide", "wide", "wide"]
    (one,) = made.interactions
    assert one.label == "moto × norm (wide)"
    assert one.terms == ((1, "wide, moto + norm"), (-1, "wide, moto"), (-1, "wide, norm"), (1, "wide"))


def test_rows_that_others_are_compared_with_are_spared_early_stopping(planned: Planned) -> None:
    made = _plan(planned, label="{component}", design="loco", set={"moto.n": 4, "norm.kind": "batch"})
    assert {trial.label for trial in made.baselines()} == {"baseline", "full"}


@settings(max_examples=15)
@given(
    n=st.lists(st.integers(1, 32), min_size=1, max_size=3, unique=True),
    tau=st.lists(st.sampled_from([0.2, 0.5, 0.7]), min_size=2, max_size=3, unique=True),
    partitions=st.sampled_from([["soft", "hard"], ["hard", "soft"]]),
)
def test_nested_grids_have_no_ignored_key_and_no_row_twice(
    planned: Planned, n: list[int], tau: list[float], partitions: list[str]
) -> None:
    made = _plan(
        planned,
        label="{n} {partition} {tau}",
        design="grid",
        set={"moto.n": n, "moto.tau": tau, "moto.partition": partitions},
        when={"moto.tau": {"moto.partition": "soft"}},
    )
    assert len(made.arms) == 1 + len(n) * (len(tau) + 1)
    assert len(made.unique()) == 2 * len(made.arms)
    for arm in made.arms[1:]:
        assert ("moto.tau" in arm.changes) == (arm.changes["moto.partition"] == "soft")
        assert arm.label.endswith(" –") == ("moto.tau" not in arm.changes)


def test_a_switch_may_be_a_dimension_of_a_nested_grid(planned: Planned) -> None:
    made = _plan(
        planned,
        label="{moto} {n} {lr}",
        design="grid",
        set={"moto": ["on", "off"], "moto.n": [2, 4], "train.lr": [0.1, 0.2]},
        when={"moto.n": {"moto": "on"}},
    )
    expected = [f"on {n} {lr}" for n, lr in itertools.product((2, 4), (0.1, 0.2))] + [
        "off – 0.1",
        "off – 0.2",
    ]
    assert sorted(arm.label for arm in made.arms[1:]) == sorted(expected)
    assert made.of(made.arms[-1])[0].spec.components == {}


_TWO = {"moto.n": 4, "norm.kind": "batch"}


@pytest.mark.parametrize(
    ("arms", "text"),
    [
        (
            {"design": "loco", "set": {"moto.n": 4}},
            "'moto' is all of `set`, so that what is left is the baseline",
        ),
        ({"design": "loco", "set": {}}, "design loco needs two components or more in `set`, which is empty"),
        (
            {"design": "pairwise", "set": {"moto.n": 4, "moto.tau": 1}},
            "two components or more, and `set` has one",
        ),
        ({"design": "add_one", "set": {"moto.n": 4}}, "two components or more, and `set` has one, 'moto'"),
        (
            {"design": "pairwise", "set": _TWO, "order": 3},
            "order 3 is more than the 2 components: moto, norm",
        ),
        ({"design": "pairwise", "set": _TWO, "order": 1}, "order: must be greater than or equal to 2, not 1"),
        (
            {"design": "loco", "set": _TWO, "components": ["motto", "norm"]},
            "'motto' is not in `set` (did you mean 'moto'?); it has: moto.n, norm.kind",
        ),
        (
            {"design": "loco", "set": _TWO, "components": {"a": "moto", "b": "moto.n"}},
            "are the same keys of `set`",
        ),
        (
            {"design": "add_one", "set": {**_TWO, "train.lr": 1}, "components": ["moto", "norm"]},
            "train.lr is in no component",
        ),
        (
            {"design": "pairwise", "set": {**_TWO, "moto.tau": 1}, "components": ["moto", "moto.n", "norm"]},
            "moto.n is in 'moto' and in 'moto.n'",
        ),
        ({"design": "loco", "set": _TWO, "baseline": True}, "design loco compares its rows"),
        (
            {"design": "grid", "set": {"moto.n": [2, 4]}, "components": ["moto"]},
            "components belongs to design loco or",
        ),
        (
            {"design": "loco", "set": _TWO, "cumulative": True},
            "cumulative belongs to design add_one, not to loco",
        ),
        ({"design": "zip", "set": _TWO, "when": {"moto.n": {}}}, "when belongs to design grid, not to zip"),
        ({"design": "loco", "set": {"moto.n": [2, 4], "norm.kind": "batch"}}, "needs `design: grid`"),
        (
            {"label": "a", "design": "grid", "set": {"moto.n": 4}},
            "design grid makes one row of this `set`, which is no grid",
        ),
        (
            {"design": "grid", "set": {"moto.n": [2, 4]}, "when": {"moto.nn": {"moto.n": 2}}},
            "when: 'moto.nn' is not in `set` (did you mean 'moto.n'?)",
        ),
        (
            {
                "design": "grid",
                "set": {"moto.n": [2, 4], "moto.tau": [1, 2]},
                "when": {"moto.tau": {"moto.n": 3}},
            },
            "moto.tau: when: moto.n is never 3; it can be: 2, 4",
        ),
        (
            {"design": "loco", "set": {"moto.n": 4, "train.epochs": 300}},
            "'without moto' changes nothing: with train it is what 'baseline' has; leave them out of `set`",
        ),
        (
            {"design": "pairwise", "set": {"moto.n": 4, "train.epochs": 300}},
            "'without train' changes nothing: train.epochs = 300 is what 'baseline' has",
        ),
    ],
)
def test_a_wrong_block_is_one_clear_error(planned: Planned, arms: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        _plan(planned, **{"label": "without {component}", **arms})
    assert text in str(caught.value)


def test_a_study_of_baselines_alone_compares_nothing(planned: Planned) -> None:
    with pytest.raises(SettingError, match=r"every row is a baseline.*'baseline', 'wide'"):
        _plan(planned, label="wide", baseline=True, set={"train.lr": 1.0})


def test_rows_that_differ_in_more_than_they_declare_are_refused(planned: Planned) -> None:
    made = planned(
        {"arms": [{"label": "a", "set": {"moto.n": 4}}, {"label": "b", "set": {"norm.kind": "batch"}}]}
    )
    base, a, b = (made.of(arm)[0].spec for arm in made.arms)
    (row,) = rows(Arms(label="a", set={"moto.n": 4}), "f")
    check_row(row, "base", {"base": base, "a": a}, "f")
    with pytest.raises(SettingError) as caught:
        check_row(row, "base", {"base": b, "a": a}, "f")
    assert "f: 'a' differs from 'base' in more than it declares: norm; declare that too" in str(caught.value)


@pytest.mark.parametrize("seeds", [1, [4]])
def test_a_claimed_test_needs_seeds_unless_a_quick_look_was_asked_for(planned: Planned, seeds: Any) -> None:
    arms = [{"label": "a", "set": {"moto.n": 4}}]
    document = {"arms": arms, "report": {"test": "paired_t"}}
    assert planned({**document, "seeds": 2}).notes == ()
    with pytest.raises(
        SettingError, match=r"report.test is paired_t.*two seeds.*`seeds: 3`, or `test: none`"
    ):
        planned({**document, "seeds": seeds})
    (note,) = planned({**document, "seeds": 2}, overrides=["seeds=1"]).notes
    assert "nothing is tested" in note
    assert planned({"arms": arms, "seeds": seeds, "report": {"test": "none"}}).trials
    assert planned({"arms": arms, "seeds": seeds}).trials
