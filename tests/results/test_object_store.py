"""A store in an S3-compatible server on this machine: records, journals, files, addresses, a server away."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablator.contracts.record import Record
from ablator.errors import StoreError
from ablator.results.journal import Sample
from ablator.results.objects import is_name
from ablator.results.standing import read_standing, remove_standing
from ablator.results.store import Store

MakeRecord = Callable[..., Record]


@pytest.fixture
def store(s3_store: str) -> Store:
    return Store.open(s3_store)


def candidates(store: Store, record: Record) -> list[str]:
    return [name for name in store.files.names("records") if record.identity in name]


def test_records_are_kept_once_and_read_by_everybody(store: Store, make_record: MakeRecord) -> None:
    first, second = make_record(1), make_record(1, metrics={"top1": 1.0})
    assert [store.ledger.commit(first), Store(store.uri).ledger.commit(second)] == [True, False]
    others = [make_record(number) for number in range(2, 12)]
    assert all(store.ledger.commit(record) for record in others)
    reader = Store(store.uri).ledger
    assert reader.get(first.identity) == first
    assert reader.get(make_record(99).identity) is None
    wanted = [record.identity for record in (*others, first)]
    assert list(reader.load([*wanted, make_record(99).identity])) == wanted
    assert reader.identities() == set(wanted)
    assert len(candidates(store, first)) == 1


def test_failures_and_pruned_records_make_way(store: Store, make_record: MakeRecord) -> None:
    failed = make_record(1, status="failed", metrics={}, error="out of memory")
    pruned = make_record(2, status="pruned")
    ledger = store.ledger
    assert ledger.commit(failed)
    assert ledger.commit(pruned)
    assert ledger.failures([pruned.identity, failed.identity]) == {failed.identity: failed}
    assert ledger.identities() == {pruned.identity}
    assert ledger.drop_pruned([pruned.identity, failed.identity]) == [pruned.identity]
    assert ledger.commit(make_record(1))
    assert ledger.failure(failed.identity) is None
    assert not ledger.commit(failed)
    assert ledger.failed() == set()


def test_damage_is_named_by_its_address_and_moved_aside(store: Store, make_record: MakeRecord) -> None:
    good, bad = make_record(1), make_record(2)
    store.ledger.commit(good)
    store.ledger.commit(bad)
    (name,) = candidates(store, bad)
    content = store.files.read(name)
    store.files.write(name, content[:-20] + b"x" * 20)
    with pytest.raises(StoreError, match="damaged record") as error:
        store.ledger.load([good.identity, bad.identity])
    assert store.files.at(name.rpartition("/")[0]) in str(error.value)
    (aside,) = store.ledger.repair()
    assert "/quarantine/" in aside
    assert store.ledger.load([good.identity, bad.identity]) == {good.identity: good}
    assert store.ledger.commit(bad)


def test_records_that_were_read_are_not_fetched_again_and_a_damaged_copy_does_not_count(
    store: Store, make_record: MakeRecord
) -> None:
    records = {record.identity: record for record in (make_record(number) for number in range(8))}
    for record in records.values():
        store.ledger.commit(record)
    reader = Store(store.uri)
    assert reader.ledger.load(records) == records
    copies = sorted(path for path in (store.root / "records").rglob("*") if path.is_file())
    assert len(copies) == len(records)
    stamps = [path.stat().st_mtime_ns for path in copies]
    assert reader.ledger.load(records) == records
    assert [path.stat().st_mtime_ns for path in copies] == stamps

    copies[0].write_bytes(b"")
    copies[1].write_bytes(copies[1].read_bytes()[:-5] + b"wrong")
    assert reader.ledger.load(records) == records
    assert len(copies[0].read_bytes()) > 100


def test_a_journal_goes_on_in_another_process(store: Store) -> None:
    journal = store.journal("s-search")
    assert (journal.size(), journal.read()) == (0, [])
    samples = [Sample(sample=n, point={"moto.n": n}, identities=(f"{n:064x}",)) for n in range(12)]
    for sample in samples[:11]:
        journal.append(sample)
    other = Store(store.uri).journal("s-search")
    assert other.name == "s-search"
    assert other.read() == samples[:11]
    before = other.size()
    journal.append(samples[11])
    assert other.size() > before
    assert other.read() == samples
    name = sorted(store.files.names("searches"))[3]
    store.files.write(name, b"garbage")
    with pytest.raises(StoreError, match=r"damaged search journal .*000003\.json"):
        Store(store.uri).journal("s-search").read()


def test_files_made_here_are_found_by_another_machine(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = "ab" * 32
    weights, last = store.weights(identity), store.checkpoint(identity)
    for path in (weights, last):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"tensors")
        store.publish(path)
    digest, plugin = store.keep_diff("+ a line"), store.keep_plugin(b"x = 1\n")

    monkeypatch.setenv("ABLATOR_CACHE", str(tmp_path / "another machine"))
    there = Store(store.uri)
    assert there.root != store.root
    assert not there.weights(identity).exists()
    assert there.has(there.weights(identity))
    assert there.bring(there.weights(identity)).read_bytes() == b"tensors"
    assert there.checkpointed() == {identity}
    assert there.kept_weights() == {identity: 7}
    assert there.diff(digest).read_text() == "+ a line"
    assert there.plugin(plugin).read_bytes() == b"x = 1\n"

    there.bring(there.checkpoint(identity))
    assert there.set_aside(identity).endswith(f"checkpoints/quarantine/{identity}.pt")
    assert there.checkpointed() == set()
    assert not there.checkpoint(identity).exists()
    there.remove(there.weights(identity))
    assert not store.has(weights)
    assert not there.weights(identity).exists()


@pytest.mark.parametrize("name", ["../x", "reports/../../x", "reports//x", "a/./b", "", "a/.writing-x"])
def test_no_listed_name_leads_out_of_the_stores_folder_here(name: str) -> None:
    assert not is_name(name)
    assert is_name("reports/s/laptop/results.json")


def test_tickets_and_standings(store: Store) -> None:
    spot = store.ticket("ab" * 32)
    spot.files.write(spot.name, b"{}")
    assert Store(store.uri).ticketed() == {"ab" * 32}
    spot.files.remove(spot.name)
    assert store.ticketed() == set()
    live = store.live("s", "laptop")
    assert read_standing(live) is None
    live.files.write(live.name, b"[]")
    assert read_standing(live) is None
    remove_standing(live)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://key:a-long-secret@bucket/p", "credentials come from the environment .AWS_ACCESS_KEY_ID"),
        ("s3://bucket/p?secret_key=a-long-secret", "credentials come from the environment"),
        ("s3://bucket/p?endpoint_override=http://key:a-long-secret@host", "before the @"),
        ("gs://bucket/p?region=x", "says endpoint_override, scheme"),
        ("s3://bucket/p?scheme=ftp", "neither http nor https"),
        ("s3://", "names no bucket"),
        ("ftp://host/p", "file://, s3://, gs://"),
        (Path("s3://bucket/p"), "is text"),
    ],
)
def test_an_address_that_no_store_can_have_is_refused(address: str | Path, said: str) -> None:
    with pytest.raises(StoreError, match=said) as error:
        Store(address)
    assert "a-long-secret" not in str(error.value)


def test_addresses_of_google_and_azure_are_understood() -> None:
    for address in ("gs://bucket/p", "abfss://container@account.dfs.core.windows.net/p"):
        store = Store(address)
        assert store.remote
        assert store.at(store.root / "x") == f"{address}/x"
        assert store.uri == address
    with pytest.raises(StoreError, match="cannot open the store"):
        Store.open("gs://bucket/p?endpoint_override=127.0.0.1:1&scheme=http")


def test_an_address_of_a_folder_is_that_folder(tmp_path: Path) -> None:
    store = Store.open(f"file://{tmp_path}/a%20store")
    assert (store.root, store.remote) == (tmp_path / "a store", False)
    assert store.uri == str(tmp_path / "a store")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("s3://bucket/", "s3://nobucket/"), "there is no such bucket"),
        (("127.0.0.1", "no-such-host.invalid"), "no machine has that name"),
        (("endpoint_override=127.0.0.1:", "endpoint_override=127.0.0.1:1&region=x"), "nothing answers there"),
    ],
)
def test_a_store_that_cannot_be_reached_is_told_in_words(
    s3_store: str, change: tuple[str, str], said: str
) -> None:
    address = s3_store.replace(*change)
    with pytest.raises(StoreError, match=said) as error:
        Store.open(address)
    assert "--store" in str(error.value)


class Forward(socketserver.BaseRequestHandler):
    """Passes one connection on to the server."""

    endpoint: tuple[str, int]

    def handle(self) -> None:
        with socket.create_connection(self.endpoint) as there:
            back = threading.Thread(target=self._copy, args=(there, self.request), daemon=True)
            back.start()
            self._copy(self.request, there)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def test_a_commit_waits_for_a_store_that_is_away_and_gets_through(
    s3_store: str, s3_endpoint: str, make_record: MakeRecord
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = Store(s3_store.replace(s3_endpoint, f"127.0.0.1:{port}"))
    record = make_record(1)
    kept: list[bool] = []
    thread = threading.Thread(target=lambda: kept.append(away.ledger.commit(record)))
    thread.start()
    time.sleep(1.0)
    assert not kept, "nothing answers yet"
    host, _, number = s3_endpoint.partition(":")
    handler = type("Handler", (Forward,), {"endpoint": (host, int(number))})
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        thread.join(60)
        server.shutdown()
    assert kept == [True]
    assert Store(s3_store).ledger.get(record.identity) == record


def test_a_store_that_stays_away_is_told_in_words(s3_store: str) -> None:
    away = Store(s3_store.replace("127.0.0.1:", "127.0.0.1:1&region="))
    path = away.weights("ab" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"tensors")
    with pytest.raises(StoreError, match="nothing answers there"):
        away.publish(path, patience=0.6)
