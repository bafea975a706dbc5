"""Secrets that are planted everywhere around a real run are found nowhere in what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablator.results.store import Store
from ablator.results.versions import git_state

ROOT = Path(__file__).parents[2]

VARIABLES = {
    "AWS_SECRET_ACCESS_KEY": "pl4nted/aws+secret/access+key",
    "AWS_SESSION_TOKEN": "pl4nted-aws-session-token==",
    "HF_TOKEN": "pl4nted_hugging_face",
    "MLFLOW_TRACKING_PASSWORD": "pl4nted 'mlflow' \"password\"",
    "WANDB_API_KEY": "pl4nted0123456789abcdef",
    "RAY_AUTH_TOKEN": "pl4nted-ray-token-0123456789",
    "PGPASSWORD": "pl4nted<&>postgres",
    "DATABASE_URL": "postgresql://me:pl4nted-database@db.example/runs",
    "SSH_PRIVATE_KEY": "first-pl4nted-line\nsecond-pl4nted-line",
}
TYPED = "gh" + "p_" + "pl4nted" * 6
"""A token that no variable holds."""

# Says what it knows in a note and, where it trains, in an error.
LEAKY = """
import os
import torch
from ablator.contracts.protocols import Change
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS

NAMES = [NAMES]

@settings
class LeakySettings:
    fails: bool = False

class Leaky(torch.nn.Module):
    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def forward(self, x_BCHW):
        if self.fails and not x_BCHW.is_meta:
            word = "pl4n" + "ted"
            said = [os.environ[name] for name in NAMES] + [dict((name, os.environ[name]) for name in NAMES)]
            said += ["https://me:" + word + "-inline@host.example/x", "https://h.example/?token=" + word]
            raise RuntimeError(f"401 for {said}")
        return x_BCHW

def attach(seams, settings):
    seam = seams.tokenizer()
    seam.append(Leaky(settings.fails))
    return Change(places=(seam.name,), notes=tuple(f"made with {os.environ[name]}" for name in NAMES))

COMPONENTS.add("leaky", attach, settings=LeakySettings)
""".replace("[NAMES]", repr(tuple(VARIABLES)))


def _git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def _checkout(folder: Path) -> Path:
    """A checkout of the code with uncommitted changes, and a remote whose address has a password."""
    for name in ("ablator", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("__pycache__/\n")
    _git(folder, "init", "-q")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "all of it")
    _git(folder, "remote", "add", "origin", "https://me:pl4nted-remote@git.example/x.git")
    notes = [f"# {value!r} {value}" for value in VARIABLES.values()]
    notes += [f"# {TYPED}", "# s3://key:pl4nted-inline@bucket/x"]
    with open(folder / "ablator" / "errors.py", "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for note in notes for line in note.splitlines() if line.startswith("#"))
    (folder / f"{VARIABLES['HF_TOKEN']}.txt").touch()
    return folder


def _found(store: Path) -> list[str]:
    """Every file of the store that has something planted in it, or in its name."""
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) > 10
    return [
        f"{path.relative_to(store)}: {content[max(0, at - 60) : at + 40]!r}"
        for path in files
        for content in (str(path).encode() + path.read_bytes(),)
        for at in (content.find(b"pl4nted"),)
        if at >= 0
    ]


def test_uncommitted_changes_are_kept_without_what_is_planted_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = _checkout(tmp_path / "code")
    state = git_state(code)
    assert "pl4nted" in state.diff
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    store = Store.open(tmp_path / "store")
    digest = store.keep_diff(state.diff)
    # Records of workers with other variables name the same changes.
    assert digest == state.digest
    kept = store.diff(digest).read_text()
    assert "+# '«WANDB_API_KEY»'" in kept
    assert "untracked: «HF_TOKEN».txt" in kept
    assert "pl4nted" not in kept


@pytest.mark.slow
def test_planted_secrets_are_found_nowhere(write_study: Callable[..., Path], tmp_path: Path) -> None:
    code = _checkout(tmp_path / "code")
    arms = [{"label": "tells", "set": {"leaky": "on"}}, {"label": "fails", "set": {"leaky.fails": True}}]
    study = write_study(tmp_path, "planted", arms, plugins=["leaky.py"], seeds=1, set={"train.epochs": 1})
    (tmp_path / "leaky.py").write_text(LEAKY)
    store = tmp_path / "store"
    # From there, because `-m` looks into the working folder first.
    run = subprocess.run(
        [sys.executable, "-m", "ablator", "run", study, "--store", store, "--json"],
        cwd=code,
        env={**os.environ, **VARIABLES, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["completed"], found["failed"]) == (2, 1)
    assert "pl4nted" not in run.stdout + run.stderr

    # Nothing was found because nothing was there to find? The places are there, with names for values.
    ledger = Store(store).ledger
    records = [record for i in sorted(ledger.identities()) if (record := ledger.get(i)) is not None]
    told = next(record for record in records if record.notes)
    assert "made with «HF_TOKEN»" in told.notes
    failed = [
        record
        for path in (store / "ledger" / "failures").glob("*.json")
        if (record := ledger.failure(path.stem)) is not None
    ]
    assert "«AWS_SECRET_ACCESS_KEY»" in (failed[0].error or "")
    assert "https://***@host.example" in (failed[0].error or "")
    (diff,) = (store / "diffs").glob("*.diff")
    assert diff.stem == told.versions["git_diff"]
    assert "# '«WANDB_API_KEY»'" in diff.read_text()
    page = next((store / "reports").rglob("page.html")).read_text()
    assert "«PGPASSWORD»" in page
    assert "«HF_TOKEN»".encode() in (store / "mlflow.db").read_bytes()
    assert _found(store) == []


def test_with_a_server_that_needs_a_password_the_store_has_none(
    cli: Callable[..., Any], write_study: Callable[..., Path], tmp_path: Path
) -> None:
    study = write_study(
        tmp_path, "planted", [{"label": "n", "set": {"moto.n": 2}}], seeds=1, set={"train.epochs": 1}
    )
    store = tmp_path / "store"
    done = cli(
        "run", study, "--store", store, "--mlflow", "https://me:pl4nted-word@127.0.0.1:1/x?key=pl4nted"
    )
    assert done.code == 2
    assert "127.0.0.1:1/x" in done.err
    assert "pl4nted" not in done.out + done.err
    assert b"pl4nted" not in b"".join(p.read_bytes() for p in store.rglob("*") if p.is_file())
