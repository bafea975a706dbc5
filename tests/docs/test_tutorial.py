"""docs/tutorial.md, word for word, and the notebook."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "new_sweep.ipynb"


@pytest.fixture
def new_user(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/new_user.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("new_user")


def test_the_tutorial_is_one_python_file_one_study_and_commands(new_user: ModuleType) -> None:
    steps = list(new_user.steps(new_user.TUTORIAL.read_text(encoding="utf-8")))
    saved = [step.path for step in steps if step.path]
    assert saved == ["experiments/rms_norm.py", "experiments/my_norm.yaml"]
    commands = "".join(step.text for step in steps if not step.path)
    for needed in ("git clone", "make install", "ablator plan", "ablator run", "ablator report"):
        assert needed in commands


@pytest.mark.slow
def test_whoever_follows_the_tutorial_gets_its_table(new_user: ModuleType, tmp_path: Path) -> None:
    taken = new_user.follow(tmp_path, reuse=True, quick=True)
    assert len(taken) == 6
    table = tmp_path / "ablator-tutorial" / ".ablator" / "reports" / "my_norm" / "laptop" / "table.md"
    for row in ("DeiT-S", "LayerNorm", "RMSNorm, gain 1.0", "RMSNorm, gain 0.1"):
        assert f"| {row} |" in table.read_text(encoding="utf-8")


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type != "code" or (not cell.outputs and cell.execution_count is None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs_and_shows_its_table(tmp_path: Path) -> None:
    (tmp_path / "docs" / "notebooks").mkdir(parents=True)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=540, resources={"metadata": {"path": str(tmp_path / "docs" / "notebooks")}}
    )
    client.create_kernel_manager()
    assert client.km is not None
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output.get("data", {}).get("text/html", "") for output in outputs]
    tables = [html for html in shown if "<table" in html]
    assert len(tables) == 3, "the study, its plan and its results"
    assert all(f"n = {n}, τ = {tau}" in tables[2] for n in (2, 8) for tau in (0.1, 1.0))
