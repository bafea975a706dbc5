"""Where everything that a study leaves lies on disk."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path

from ablator.contracts.secrets import scrubbed
from ablator.errors import StoreError
from ablator.results.durable import explained, make_directory, replace
from ablator.results.journal import Journal
from ablator.results.ledger import Ledger

_FOLDERS = (
    *(
        "checkpoints",
        "diffs",
        "leases",
        "live",
        "mlartifacts",
        "mlflow-runs",
        "outbox",
        "plugins",
        "reports",
        "scratch",
    ),
    *("searches", "tickets", "weights"),
)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def checked_name(name: str, kind: str = "name") -> str:
    """`name` if it is safe as the name of a file and of an MLflow experiment. Raises StoreError."""
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"a {kind} is made of at most 200 letters, digits, '_', '-' and '.', and does not begin with "
            f"'.'; not {name!r}"
        )
    return name


class Store:
    """The folder that `--store` names. Making one touches nothing; `open` creates and probes it."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()

    @classmethod
    def open(cls, root: Path | str) -> Store:
        """The store at `root`, created where missing and proven writable. Raises StoreError."""
        store = cls(root)
        store.ledger = Ledger.open(store.root / "ledger")
        for name in _FOLDERS:
            place = store.root / name
            if place.exists() and not place.is_dir():
                raise StoreError(
                    f"{place} is a file where the store keeps a folder; move it away, or name another store "
                    "with --store DIR"
                )
        ignore = store.root / ".gitignore"
        if not ignore.exists():
            with explained("write", ignore):
                # A store inside a checkout does not make the checkout dirty.
                replace(ignore, b"*\n")
        return store

    @cached_property
    def ledger(self) -> Ledger:
        """Every finished trial's record, over all studies."""
        return Ledger(self.root / "ledger")

    def checkpoints(self, identity: str) -> Path:
        """Folder of one trial's checkpoints."""
        return self.root / "checkpoints" / checked_name(identity, "trial's identity")

    @property
    def tickets(self) -> Path:
        """Specs of the trials that are being trained at this moment, one file each."""
        return self.root / "tickets"

    def checkpoint(self, identity: str) -> Path:
        """One trial's newest checkpoint; its folder is removed when the trial is committed."""
        return self.checkpoints(identity) / "last.pt"

    def weights(self, identity: str) -> Path:
        """One finished trial's final weights, where a run was asked to keep them."""
        return self.root / "weights" / f"{checked_name(identity)}.pt"

    def kept_weights(self) -> dict[str, Path]:
        """Identity to file of all weights that runs were asked to keep."""
        return {path.stem: path for path in sorted((self.root / "weights").glob("*.pt"))}

    def set_aside(self, identity: str) -> Path:
        """Move a trial's damaged checkpoint out of its way, over an earlier one; returns where it is now.
        Raises StoreError."""
        aside = self.root / "checkpoints" / "quarantine" / f"{checked_name(identity)}.pt"
        with explained("move a damaged checkpoint to", aside):
            make_directory(aside.parent)
            self.checkpoint(identity).replace(aside)
        return aside

    def set_weights_aside(self, identity: str) -> Path:
        """The same for a trial's damaged weights."""
        aside = self.root / "weights" / "quarantine" / f"{checked_name(identity)}.pt"
        with explained("move damaged weights to", aside):
            make_directory(aside.parent)
            self.weights(identity).replace(aside)
        return aside

    def journal(self, study: str) -> Journal:
        """The samples that a study's search drew."""
        return Journal(self.root / "searches" / f"{checked_name(study, 'study name')}.jsonl")

    def live(self, study: str, profile: str) -> Path:
        """Where the driver of a study's run says how it stands while it runs (`results/standing.py`)."""
        # No study's name has a hyphen, so that no two of them share a file; a profile may be called anything.
        name = f"{study}-{re.sub(r'[^A-Za-z0-9_.-]', '_', profile)}"
        return self.root / "live" / f"{checked_name(name, 'study name')}.json"

    def reports(self, study: str) -> Path:
        """Folder of a study's tables and page."""
        return self.root / "reports" / checked_name(study, "study name")

    def keep_diff(self, diff: str) -> str:
        """Keep uncommitted changes of the code once, without the secrets in them; returns the hash of the
        whole, which records carry, whatever a machine's variables hold. Raises StoreError."""
        digest = hashlib.sha256(diff.encode()).hexdigest()[:16]
        path = self.diff(digest)
        if not path.exists():
            with explained("write", path):
                make_directory(path.parent)
                replace(path, scrubbed(diff).encode())
        return digest

    def diff(self, digest: str) -> Path:
        """Where `keep_diff` put the changes with that hash."""
        return self.root / "diffs" / f"{checked_name(digest, 'hash')}.diff"

    def keep_plugin(self, source: bytes) -> str:
        """Keep a plug-in's file once, by content, for the workers; returns its SHA-256. Raises StoreError."""
        digest = hashlib.sha256(source).hexdigest()
        path = self.plugin(digest)
        if not path.exists():
            with explained("write", path):
                make_directory(path.parent)
                replace(path, source)
        return digest

    def plugin(self, digest: str) -> Path:
        """Where `keep_plugin` put the file with that SHA-256."""
        return self.root / "plugins" / f"{checked_name(digest, 'digest')}.py"

    @property
    def database(self) -> Path:
        """MLflow's own SQLite database, where no other server is asked for."""
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts that belong to `database`."""
        return self.root / "mlartifacts"

    @property
    def outbox(self) -> Path:
        """What MLflow has not got yet: target/study/identity.json."""
        return self.root / "outbox"

    @property
    def sent(self) -> Path:
        """What MLflow has: target/study.jsonl, one line a run."""
        return self.root / "mlflow-runs"
