"""Study files, recipes, profiles, spaces and plug-ins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ablator import api
from ablator.errors import UserError
from ablator.study.loading import load
from ablator.study.schema import Arms, Profile, Study

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("little_memory")]

HEAD = "study: tiny\narms:\n  - {label: x, set: {moto.n: 4}}\n"
ARM = "study: tiny\narms:\n  - {label: '%s', set: {moto.n: 4}}\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "m0: &m0 {k: v}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 12)
)
CHAIN = "c0: &c0 [x]\n" + "".join(f"c{i}: &c{i} [*c{i - 1}]\n" for i in range(1, 3000))
MANY = ", ".join(map(str, range(1, 1001)))
PARTS = ", ".join(f"train.k{i}: {i}" for i in range(40))


def block(text: str) -> str:
    return f"study: tiny\narms:\n  - {{{text}}}\n"


def space(text: str) -> str:
    return block(f"label: x, design: search, space: {{dimensions: {{{text}}}}}")


DOCUMENTS = {
    "python object": (HEAD + "set: !!python/object/apply:os.system ['touch ran']\n", "python/object"),
    "python name": (HEAD + "question: !!python/name:os.system\n", "python/name"),
    "binary": (HEAD + "question: !!binary aGVsbG8=\n", "not plain data"),
    "billion laughs": (LAUGHS + HEAD, "aliases"),
    "merge keys": (MERGES + HEAD, "aliases"),
    "chain of aliases": (CHAIN + HEAD, "levels deep"),
    "alias to itself": (HEAD + "set: &a {x: *a}\n", "in itself"),
    "deep list": (HEAD + f"set: {'[' * 50_000}{']' * 50_000}\n", "levels deep"),
    "deep mapping": (HEAD + f"set: {'{a: ' * 200}1{'}' * 200}\n", "levels deep"),
    "huge text": (HEAD + f"question: {'x' * 10**8}\n", "larger than 512 KiB"),
    "huge number": (HEAD + f"seeds: {'9' * 5000}\n", "not valid YAML"),
    "a key twice": (HEAD + "seeds: 2\nseeds: 3\n", "there twice"),
    "many unknown keys": (HEAD + "".join(f"k{i}: 1\n" for i in range(20_000)), "many mistakes"),
    "many keys of a set": (
        HEAD + "set: {" + ", ".join(f"train.k{i}: 1" for i in range(20_000)) + "}\n",
        "keys",
    ),
    "terminal escape": (ARM.replace("'%s'", '"\\e]0;owned\\a"'), "U+001B"),
    "turned text": (ARM.replace("'%s'", '"a\\u202Eb"'), "U+202E"),
    "half a character": (ARM.replace("'%s'", '"\\ud800"'), "U+D800"),
    "NUL in a path": (HEAD + 'base: "a\\0b"\n', "U+0000"),
    "study that leaves its folder": (HEAD.replace("tiny", "../../tiny"), "lower-case letters"),
    "profile that leaves its folder": (HEAD + "profiles: {../../../out: {seeds: 1}}\n", "not '../../../out'"),
    "absolute profile": (HEAD + "profiles: {/tmp/out: {seeds: 1}}\n", "not '/tmp/out'"),
    "device as a base": (HEAD + "base: /dev/zero\n", "no regular file"),
    "device as a space": (block("label: x, design: search, space: /dev/zero"), "no regular file"),
    "device as weights": (HEAD + "set: {model.weights: /dev/zero}\n", "no regular file"),
    "folder as a base": (HEAD + "base: ..\n", "Is a directory"),
    "base that is no YAML": (HEAD + "base: /etc/passwd\n", "/etc/passwd"),
    "links in a circle": (HEAD + "base: circle.yaml\n", "circle.yaml"),
    "pipe as a base": (HEAD + "base: pipe.yaml\n", "no regular file"),
    "device as a plug-in": (HEAD + "plugins: [zero.py]\n", "no regular file"),
    "circle as a plug-in": (HEAD + "plugins: [circle.py]\n", "circle.py"),
    "grid of a billion rows": (
        block(
            f"label: '{{n}}', design: grid, "
            f"set: {{moto.n: [{MANY}], train.lr: [{MANY}], train.eps: [{MANY}]}}"
        ),
        "100,000 rows",
    ),
    "conditional grid of a billion rows": (
        block(
            f"label: x, design: grid, set: {{moto.n: [{MANY}], train.lr: [{MANY}], train.eps: [{MANY}]}}, "
            "when: {moto.n: {train.lr: 1}}"
        ),
        "100,000 rows",
    ),
    "every combination of 40 parts": (
        block(
            f"label: '{{components}}', design: pairwise, order: 40, set: {{{PARTS}}}, components: "
            f"[{', '.join(f'train.k{i}' for i in range(40))}]"
        ),
        "100,000 rows",
    ),
    "a billion seeds": (HEAD + "seeds: 1000000000\n", "at most 10,000"),
    "a billion sequential seeds": (HEAD + "seeds: {min: 3, max: 1000000000}\n", "at most 10,000"),
    "steps without an end": (
        space("train.lr: {kind: float, low: 0, high: 1, step: 1.0e-12}"),
        "1,000,000 values",
    ),
    "range without an end": (
        space(
            "moto.n: {kind: int, low: 1, high: 1.0e+18}, "
            "moto.tau: {kind: float, low: 1, high: 2, when: {moto.n: 0}}"
        ),
        "1,000,000 values",
    ),
    "choices without an end": (
        space(f"moto.n: {{kind: categorical, choices: [{', '.join(map(str, range(50_000)))}]}}"),
        "2,000",
    ),
}


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    for name in ("circle.yaml", "circle.py"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.yaml")
    return tmp_path


@pytest.mark.parametrize(("text", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_hostile_study_is_refused(
    text: str, said: str, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beside)
    path = beside / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        api.plan(path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 20_000
    assert not (beside / "ran").exists()


def test_bytes_that_are_no_text(study: Path) -> None:
    study.write_bytes(b"study: \xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load(study)


def test_a_study_of_python_is_held_to_the_same_names() -> None:
    arm = Arms(label="x", set={"moto.n": 4})
    with pytest.raises(UserError, match=r"U\+001B"):
        api.plan(Study(study="tiny", arms=(Arms(label="\x1b[2J", set={"moto.n": 4}),)))
    with pytest.raises(UserError, match="profiles: a name"):
        api.plan(Study(study="tiny", arms=(arm,), profiles={"../x": Profile()}))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("set: {data.root: 'https://me:pl4nted@host/x'}", "set.data.root holds a password in a URI"),
        ("question: is it pl4nted-s3cret?", "question holds the value of HF_TOKEN"),
        ("report: {note: 'see https://h/x?token=abc'}", "report.note holds a secret in the query"),
        ("base: {model: {weights: 's3://k:pl4nted@b'}}", "base.model.weights holds a password in a URI"),
    ],
)
def test_a_study_that_says_a_secret_is_refused_without_repeating_it(
    text: str, what: str, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "pl4nted-s3cret")
    study.write_text(f"{study.read_text()}{text}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        api.plan(study)
    assert what in str(caught.value)
    assert "pl4nted" not in str(caught.value)


def test_a_plugin_that_holds_a_secret_is_not_run_and_not_kept(study: Path) -> None:
    study.write_text(f"{study.read_text()}plugins: [mine.py]\n", encoding="utf-8")
    mine = study.with_name("mine.py")
    mine.write_text("import pathlib\npathlib.Path('ran').touch()\nURL = 's3://key:pl4nted@bucket'\n")
    with pytest.raises(UserError, match=r"mine\.py, line 3 holds a password in a URI"):
        api.plan(study)
    assert not Path("ran").exists()


def test_an_override_that_holds_a_secret_is_refused(study: Path, refused: Callable[..., str]) -> None:
    override = "data.root=https://me:pl4nted@host/x"
    said = refused(["plan", study, "--set", override], "--set data.root holds a password in a URI")
    assert "pl4nted" not in said
