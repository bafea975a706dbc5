from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablator.errors import StoreError
from ablator.results.journal import Journal, Sample


def sample(number: int) -> Sample:
    return Sample(
        sample=number, point={"moto.n": 2**number, "tokenprop": None}, identities=("a" * 64, "b" * 64)
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "searches" / "s.jsonl")
    assert made.read() == []
    for number in range(3):
        made.append(sample(number))
    return made


def test_samples_come_back_in_order(journal: Journal) -> None:
    assert Journal(journal.path).read() == [sample(0), sample(1), sample(2)]


@settings(max_examples=30, deadline=None)
@given(keep=st.integers(min_value=0))
def test_wherever_a_crash_cuts_whole_samples_stay(
    tmp_path_factory: pytest.TempPathFactory, keep: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("cut") / "s.jsonl")
    for number in range(3):
        journal.append(sample(number))
    content = journal.path.read_bytes()
    content = content[: keep % (len(content) + 1)]
    journal.path.write_bytes(content)
    whole = content.count(b"\n")
    assert journal.read() == [sample(n) for n in range(whole)]
    journal.append(sample(whole))
    assert journal.read() == [sample(n) for n in range(whole + 1)]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"moto.n":2', b'"moto.n":3', "checksum"),
        (b'{"crc32"', b'["crc32"', "not a sample"),
        (b'"identities"', b'"identitie5"', "not a sample"),
    ],
)
def test_other_damage_is_refused_by_line(journal: Journal, old: bytes, new: bytes, why: str) -> None:
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(old, new)
    journal.path.write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=f"line 2.*{why}") as error:
        journal.read()
    assert str(journal.path) in str(error.value)


def test_a_sample_that_is_there_twice_is_refused(journal: Journal) -> None:
    journal.append(sample(1))
    with pytest.raises(StoreError, match="line 4: sample 1 is there twice"):
        journal.read()
