"""Where everything that a study leaves lies: in a folder, or in an object store.

Of a store that lies in an object store, `root` is a folder of this machine that it works in: what torch,
MLflow or a browser want as files is made there and published, or fetched from there. What is only there
(MLflow's own database and what waits for it, Ray's files) can be made again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from ablator.contracts.secrets import scrubbed
from ablator.errors import StoreError
from ablator.results.claims import Claims, FolderClaims, ObjectClaims
from ablator.results.durable import explained, replace
from ablator.results.files import Spot
from ablator.results.journal import Journal, ObjectJournal
from ablator.results.ledger import Ledger
from ablator.results.locating import locate

_FOLDERS = (
    *("checkpoints", "diffs", "leases", "live", "mlartifacts", "mlflow-runs", "outbox", "plugins"),
    *("reports", "scratch", "searches", "tickets", "weights"),
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
    """What `--store` names: a folder, or the address of an object store (`locating.py`). Making one touches
    nothing and asks nobody; `open` creates and probes it.

    Methods that give a Path give one under `root`. `bring` and `publish` are between there and an object
    store, and do nothing of a folder.
    """

    def __init__(self, root: Path | str) -> None:
        """Raises StoreError for an address of a kind that no store can have."""
        self._place = locate(root)
        self.root = self._place.folder
        self.files = self._place.files
        self.uri = self._place.uri
        """What makes the same store in another process, on any machine that may see it."""

    @property
    def remote(self) -> bool:
        """Whether it lies in an object store."""
        return self._place.bucket is not None

    @property
    def for_ray(self) -> tuple[Any, str]:
        """Of a store in an object store the file system and the path in it, as Ray takes a place."""
        assert self._place.bucket is not None
        return self._place.bucket.for_ray

    @classmethod
    def open(cls, root: Path | str) -> Store:
        """The store at `root`, created where missing and proven writable. Raises StoreError."""
        store = cls(root)
        if store.remote:
            with explained("open the store at", store.uri):
                store.files.open()
            return store
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
        bucket = self._place.bucket
        if bucket is None:
            return Ledger(self.root / "ledger")
        return Ledger.over(bucket.below("ledger"), bucket.firsts("records", self.root / "records"))

    @cached_property
    def claims(self) -> Claims:
        """Which run has which lease."""
        bucket = self._place.bucket
        return FolderClaims(self.root / "leases") if bucket is None else ObjectClaims(bucket.below("claims"))

    def owner(self, name: str) -> Spot:
        """What a process that has leases says of itself. Raises StoreError for what is no name."""
        return Spot(self.files, f"leases/owners/{checked_name(name, 'owner')}.json")

    # ---- between this machine and an object store

    def has(self, path: Path) -> bool:
        """Whether the store has the file for which `path` stands. Raises StoreError."""
        if not self.remote:
            return path.exists()
        with explained("look for", self.at(path)):
            return self.files.exists(self._name(path))

    def bring(self, path: Path, *, again: bool = True) -> Path:
        """Fetch the file for which `path` stands, if the store has it, and with `again` over one that was
        fetched before. Returns `path`. Raises StoreError."""
        if self.remote and (again or not path.exists()):
            with explained("fetch", self.at(path)):
                self.files.bring(self._name(path), path)
        return path

    def publish(self, path: Path, *, patience: float | None = None) -> None:
        """Put the file, or all files of the folder, at `path` into the store, if they are there. `patience`:
        seconds for which one that is away is tried again, if not as long as usual. Raises StoreError."""
        if not self.remote:
            return
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith("."):
                with explained("put into the store", self.at(file)):
                    self.files.publish(file, self._name(file), patience=patience)

    def bring_folder(self, path: Path, *, below: str = "", ending: str = "") -> Path:
        """Fetch all files of a folder (of its folder `below` alone) whose names end so. Returns `path`.
        Raises StoreError."""
        if self.remote:
            with explained("fetch", self.at(path)):
                for name in self.files.names(self._name(path / below)):
                    if name.endswith(ending):
                        self.files.bring(name, self.root / name)
        return path

    def remove(self, path: Path) -> None:
        """Remove the file, or the folder, for which `path` stands, here and in the store. Raises
        StoreError."""
        if self.remote:
            with explained("remove", self.at(path)):
                name = self._name(path)
                for one in self.files.names(name) or [name]:
                    self.files.remove(one)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from None

    def at(self, path: Path) -> str:
        """Where the file for which `path` stands lies, for messages."""
        return self.files.at(self._name(path))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    # ---- what is kept

    def checkpoints(self, identity: str) -> Path:
        """Folder of one trial's checkpoints."""
        return self.root / "checkpoints" / checked_name(identity, "trial's identity")

    def starts(self, identity: str) -> Spot:
        """How often an unfinished trial was started, and what ended each start; with its checkpoints."""
        return Spot(self.files, f"checkpoints/{checked_name(identity)}/starts.json")

    def ticket(self, identity: str) -> Spot:
        """The spec of a trial that is being trained at this moment."""
        return Spot(self.files, f"tickets/{checked_name(identity)}.json")

    def ticketed(self) -> set[str]:
        """Whose tickets are out. Raises StoreError."""
        with explained("list the tickets at", self.files.at("tickets")):
            return {name[8:].removesuffix(".json") for name in self.files.names("tickets")}

    def checkpointed(self) -> set[str]:
        """Which trials have a checkpoint. Raises StoreError."""
        with explained("list the checkpoints at", self.files.at("checkpoints")):
            parts = [name.split("/") for name in self.files.names("checkpoints")]
        return {identity for _, identity, *file in parts if file == ["last.pt"]}

    def checkpoint(self, identity: str) -> Path:
        """One trial's newest checkpoint; its folder is removed when the trial is committed."""
        return self.checkpoints(identity) / "last.pt"

    def weights(self, identity: str) -> Path:
        """One finished trial's final weights, where a run was asked to keep them."""
        return self.root / "weights" / f"{checked_name(identity)}.pt"

    def kept_weights(self) -> dict[str, int]:
        """Identity to size in bytes of all weights that runs were asked to keep. Raises StoreError."""
        with explained("list the weights at", self.files.at("weights")):
            sizes = sorted(self.files.sizes("weights").items())
        # Those that are set aside lie one folder deeper.
        files = {name: size for name, size in sizes if name.endswith(".pt") and name.count("/") == 1}
        return {name[8:].removesuffix(".pt"): size for name, size in files.items()}

    def set_aside(self, identity: str) -> str:
        """Move a trial's damaged checkpoint out of its way, over an earlier one; returns where it is now.
        Raises StoreError."""
        aside = self.root / "checkpoints" / "quarantine" / f"{checked_name(identity)}.pt"
        return self._move_aside(self.checkpoint(identity), aside, "a damaged checkpoint")

    def set_weights_aside(self, identity: str) -> str:
        """The same for a trial's damaged weights."""
        aside = self.root / "weights" / "quarantine" / f"{checked_name(identity)}.pt"
        return self._move_aside(self.weights(identity), aside, "damaged weights")

    def _move_aside(self, path: Path, aside: Path, what: str) -> str:
        with explained(f"move {what} to", self.at(aside)):
            self.files.move(self._name(path), self._name(aside))
            if self.remote:
                path.unlink(missing_ok=True)
        return self.at(aside)

    def journal(self, study: str) -> Journal:
        """The samples that a study's search drew."""
        folder = f"searches/{checked_name(study, 'study name')}"
        return ObjectJournal(self.files, folder) if self.remote else Journal(self.root / f"{folder}.jsonl")

    def live(self, study: str, profile: str) -> Spot:
        """Where the driver of a study's run says how it stands while it runs (`results/standing.py`)."""
        # No study's name has a hyphen, so that no two of them share a file; a profile may be called anything.
        name = f"{study}-{re.sub(r'[^A-Za-z0-9_.-]', '_', profile)}"
        return Spot(self.files, f"live/{checked_name(name, 'study name')}.json")

    def reports(self, study: str) -> Path:
        """Folder of a study's tables and page."""
        return self.root / "reports" / checked_name(study, "study name")

    def keep_diff(self, diff: str) -> str:
        """Keep uncommitted changes of the code once, without the secrets in them; returns the hash of the
        whole, which records carry, whatever a machine's variables hold. Raises StoreError."""
        digest = hashlib.sha256(diff.encode()).hexdigest()[:16]
        self._keep(f"diffs/{digest}.diff", scrubbed(diff).encode())
        return digest

    def diff(self, digest: str) -> Path:
        """Where `keep_diff` put the changes with that hash; on this machine, if the store has them."""
        path = self.root / "diffs" / f"{checked_name(digest, 'hash')}.diff"
        return self.bring(path, again=False)

    def keep_plugin(self, source: bytes) -> str:
        """Keep a plug-in's file once, by content, for the workers; returns its SHA-256. Raises StoreError."""
        digest = hashlib.sha256(source).hexdigest()
        self._keep(f"plugins/{digest}.py", source)
        return digest

    def plugin(self, digest: str) -> Path:
        """Where `keep_plugin` put the file with that SHA-256; on this machine, if the store has it."""
        return self.bring(self.root / "plugins" / f"{checked_name(digest, 'digest')}.py", again=False)

    def _keep(self, name: str, content: bytes) -> None:
        with explained("write", self.files.at(name)):
            if not self.files.exists(name):
                self.files.write(name, content)

    # ---- MLflow, always on this machine

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
