"""The plug-ins of the how-to pages and the tutorial: each is planned, built, and trained for one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ablator import data
from ablator.assembly.build import assemble
from ablator.assembly.preflight import preflight
from ablator.plan.planning import plan
from ablator.study.loading import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*(ROOT / "docs" / "how-to").glob("*.md"), ROOT / "docs" / "tutorial.md"]
    if "```python" in path.read_text(encoding="utf-8")
)


def test_every_point_of_extension_has_a_page() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "how-to").glob("*.md")}
    code = {"backbone", "component", "data-set", "loss", "objective", "task", "tokenizer"}
    assert pages == code | {"recipe", "search-space", "profile"}
    assert {Path(page).stem for page in PAGES} == code | {"tutorial"}


@pytest.mark.usefixtures("no_traces")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_one_python_file_and_one_study(docs: Any, checkout: Path, page: str) -> None:
    saved = [block for block in docs.blocks("python", "yaml") if block.file == page]
    assert [block.language for block in saved] == ["python", "yaml"]
    assert all(block.path for block in saved)
    for block in saved:
        (checkout / "experiments" / Path(block.path).name).write_text(block.text, encoding="utf-8")
    study = load(checkout / "experiments" / Path(saved[1].path).name)
    made = plan(study, profile="laptop", fingerprint=lambda settings: data.info(settings).fingerprint)
    own = [trial for trial in made.trials if trial.seed == 0 and trial.spec.plugins]
    assert own, "a row uses what the page adds"
    sizes = preflight(own, workers=1, metric=study.report.metric, columns=study.report.columns)
    assert all(sizes[trial.identity].gmacs > 0 for trial in own)
    for trial in own:
        info = data.info(trial.spec.data)
        assembly = assemble(trial.spec, info)
        images_BCHW = torch.randn(4, 3, 32, 32)
        target_B = torch.arange(4) % len(info.classes)
        output, terms = assembly.model.train()(images_BCHW)
        losses = {**assembly.task.loss(output, target_B), **terms}
        assert all(name.split("/")[0] in (*trial.spec.objectives, "ce", "penalty") for name in losses)
        sum(losses.values()).backward()
        assert all(torch.isfinite(p.grad).all() for p in assembly.model.parameters() if p.grad is not None)
        metrics = assembly.task.metrics("cpu")
        metrics.update(output.detach(), target_B)
        assert set(metrics.compute()) == set(assembly.task.measures)
