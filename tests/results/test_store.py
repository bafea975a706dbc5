from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ablator.errors import StoreError
from ablator.results.store import Store
from ablator.results.versions import environment, git_state


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "study.yaml").write_text("seeds: 3\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "ü", "a b", "x" * 201, "a\n"])
def test_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    for place in (store.checkpoints, store.journal, store.reports):
        with pytest.raises(StoreError, match="letters, digits"):
            place(name)


def test_a_store_in_a_checkout_does_not_make_it_dirty(checkout: Path) -> None:
    Store.open(checkout / ".ablator").keep_diff("something")
    assert not git_state(checkout).dirty


def test_git_state_says_commit_and_changes(checkout: Path) -> None:
    assert git_state(checkout).commit == git(checkout, "rev-parse", "HEAD")
    assert not git_state(checkout).dirty
    (checkout / "study.yaml").write_text("seeds: 5\n")
    (checkout / "new.py").write_text("")
    state = git_state(checkout)
    assert state.dirty
    assert "+seeds: 5" in state.diff
    assert "untracked: new.py" in state.diff


def test_no_repository_and_ignored_folders_have_no_state(tmp_path: Path, checkout: Path) -> None:
    assert git_state(tmp_path).commit is None
    assert git_state(tmp_path / "missing").commit is None
    (checkout / ".gitignore").write_text("venv\n")
    (checkout / "venv" / "package").mkdir(parents=True)
    assert git_state(checkout / "venv" / "package").commit is None
    (checkout / "empty").mkdir()
    git(checkout / "empty", "init", "-q")
    assert git_state(checkout / "empty").commit is None


def test_environment_names_versions_and_the_studys_commit(checkout: Path) -> None:
    versions = environment(checkout / "study.yaml")
    assert {"python", "torch", "timm", "ray", "mlflow"} <= versions.keys()
    assert versions["study_git_commit"] == git(checkout, "rev-parse", "HEAD")
    assert versions["study_git_dirty"] == "false"


def test_a_diff_is_kept_by_its_content(tmp_path: Path, checkout: Path) -> None:
    (checkout / "study.yaml").write_text("seeds: 5\n")
    state = git_state(checkout)
    store = Store.open(tmp_path / "store")
    assert store.keep_diff(state.diff) == store.keep_diff(state.diff) == state.digest
    assert store.diff(state.digest).read_text() == state.diff
