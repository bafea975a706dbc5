"""Sequential seeds in a plan: what they come to, and what they cannot stand beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ablator.errors import SettingError
from ablator.plan.planning import Plan
from ablator.study.schema import SequentialSeeds

Planned = Callable[..., Plan]
ARMS = [{"label": "n = {n}", "design": "grid", "set": {"moto.n": [2, 4]}}]
SEEDS = {"min": 3, "max": 6, "until": "resolved"}


def test_every_seed_that_there_may_be_is_planned(planned: Planned) -> None:
    plan = planned({"arms": ARMS, "seeds": SEEDS})
    assert plan.sequential == SequentialSeeds(min=3, max=6)
    assert plan.seeds == (0, 1, 2, 3, 4, 5)
    assert len(plan.trials) == 18
    fixed = planned({"arms": ARMS, "seeds": 6})
    assert fixed.sequential is None
    assert plan.unique().keys() == fixed.unique().keys(), "how seeds are given out decides no trial"


def test_profiles_and_options_replace_them(planned: Planned) -> None:
    laptop = {"profiles": {"laptop": {"seeds": {"min": 2, "max": 4}}}}
    document = {"arms": ARMS, "seeds": 3, **laptop}
    assert planned(document).sequential is None
    assert planned(document, profile="laptop").sequential == SequentialSeeds(min=2, max=4)
    text = planned(document, overrides=["seeds={min: 4, max: 9}"])
    assert text.sequential == SequentialSeeds(min=4, max=9)
    assert planned({"arms": ARMS, "seeds": SEEDS}, overrides=["seeds=2"]).sequential is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"seeds": {"min": 5, "max": 4}}, ["seeds.max 4 is below seeds.min 5", "{min: 3, max: 12"]),
        ({"seeds": {"min": 1, "max": 4}}, ["seeds.min", "greater than or equal to 2"]),
        ({"seeds": {"min": 3, "most": 4}}, ["unknown key", "max, min, until"]),
        ({"seeds": {"until": "bored"}}, ["seeds.until", "'resolved'", "'bored'"]),
        ({"seeds": SEEDS, "stop": "asha"}, ["early stopping (asha)", "leave out `stop`", "`seeds: 3`"]),
        ({"seeds": SEEDS, "report": {"test": "none"}}, ["report.test is none", "`seeds: 3`"]),
        (
            {
                "seeds": SEEDS,
                "arms": [
                    *ARMS,
                    {
                        "label": "all",
                        "design": "search",
                        "space": {"dimensions": {"moto.n": {"kind": "categorical", "choices": [3, 5]}}},
                    },
                ],
            },
            ["'all' is a search", "a study of its own"],
        ),
    ],
)
def test_what_leaves_no_valid_test_is_refused(
    planned: Planned, document: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(SettingError) as caught:
        planned({"arms": ARMS, **document})
    for word in words:
        assert word in str(caught.value)
