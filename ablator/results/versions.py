"""What a record says about the software that made it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("ablator", "torch", "timm", "ray", "mlflow")
_SECONDS = 20
_LARGEST_DIFF = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class GitState:
    """What git says of a folder; the defaults stand for a folder without git."""

    commit: str | None = None
    """Full hash of HEAD; None without a repository or before its first commit."""
    dirty: bool = False
    """Whether tracked files differ from HEAD, or untracked ones lie there that git does not ignore."""
    diff: str = ""
    """`git diff HEAD` of the folder's repository, then the names of untracked files; at most 1 MB."""

    @property
    def digest(self) -> str:
        """Hash of the diff, as `Store.keep_diff` returns it; empty where nothing differs."""
        return hashlib.sha256(self.diff.encode()).hexdigest()[:16] if self.diff else ""


def environment(study: Path | None = None) -> dict[str, str]:
    """Versions for a record: python, the packages that decide results, and git's state of the code and of
    the folder that the study file lies in. Nothing is imported for it, and nothing names the machine;
    device and threads are the worker's to add.

    Keys beside the packages: git_commit, git_dirty ("true" or "false"), git_diff (hash of the
    uncommitted changes), and study_git_commit, study_git_dirty for the study's folder; those of git
    only where there is a repository.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions |= _described("git", code_state())
    if study is not None:
        folder = study if study.is_dir() else study.parent
        versions |= {k: v for k, v in _described("study_git", git_state(folder)).items() if "diff" not in k}
    return versions


def code_state() -> GitState:
    """Git's state of the checkout that this code runs from; empty for an installed package."""
    return git_state(Path(__file__).resolve().parent)


def git_state(path: Path) -> GitState:
    """Git's state of the repository around `path`; empty where there is no git, no repository, or the
    repository ignores `path` (an environment that lies inside somebody's project)."""
    if not path.is_dir() or _git(path, "check-ignore", "-q", ".") is not None:
        return GitState()
    status = _git(path, "status", "--porcelain=v2", "--branch")
    if status is None:
        return GitState()
    lines = status.splitlines()
    oid = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), "")
    commit = None if oid in ("", "(initial)") else oid
    changes = [line for line in lines if not line.startswith("#")]
    if not changes:
        return GitState(commit=commit)
    diff = _git(path, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD") if commit else None
    untracked = [f"untracked: {line[2:]}\n" for line in changes if line.startswith("? ")]
    return GitState(commit=commit, dirty=True, diff=((diff or "") + "".join(untracked))[:_LARGEST_DIFF])


def _described(prefix: str, state: GitState) -> dict[str, str]:
    if state.commit is None:
        return {}
    described = {f"{prefix}_commit": state.commit, f"{prefix}_dirty": "true" if state.dirty else "false"}
    return described | ({f"{prefix}_diff": state.digest} if state.digest else {})


def _git(path: Path, *arguments: str) -> str | None:
    """What git prints; None where it is missing, fails or takes too long."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-C", str(path), *arguments]
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, env=variables, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
