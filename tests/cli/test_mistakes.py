"""What a user can get wrong: one message, exit code 2, no traceback, and nothing spent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from ablator import api
from ablator.results.store import Store
from ablator.training import checkpoint

Ablator = Callable[..., Result]
Fill = Callable[..., Path]

ARMS = '  - {label: "n = {n}", design: grid, set: {moto.n: [2, 4]}}'
SEEDS = "\nseeds: 2\n"


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that is not found ends here, and not in a cluster that starts."""

    def starts(*arguments: object, **options: object) -> None:
        raise AssertionError("the mistake was not found before Ray was started")

    monkeypatch.setattr("ray.init", starts)
    # Not a cluster that somebody else runs on this machine.
    monkeypatch.setenv("RAY_ADDRESS", "local")


def refused(result: Result, *said: str) -> None:
    """One error in one line, with these words in it."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: "), result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "None" not in result.stderr
    for text in said:
        assert text in result.stderr, result.stderr


def rewrite(study: Path, old: str, new: str) -> None:
    text = study.read_text(encoding="utf-8")
    assert old in text
    study.write_text(text.replace(old, new), encoding="utf-8")


def spec_key(key: str, value: str) -> tuple[str, str]:
    """The study's own `set`."""
    return SEEDS, f"\nseeds: 2\nset: {{{key}: {value}}}\n"


def arm(text: str) -> tuple[str, str]:
    """Another arm instead."""
    return ARMS, f"  - {{{text}}}"


def space(dimension: str) -> tuple[str, str]:
    return arm(f"label: best, design: search, space: {{dimensions: {{{dimension}}}}}")


# What is written wrong: the change of the study file, and what the error says.
DOCUMENTS = {
    "unknown key": (("\nquestion:", "\nquestoin:"), ["questoin", "did you mean 'question'", "known: arms"]),
    "unknown key of an arm": (("design: grid", "desing: grid"), ["arms[0].desing", "did you mean 'design'"]),
    "unknown key of the spec": (spec_key("train.epoch", "3"), ["set: train.epoch", "did you mean 'epochs'"]),
    "unknown section": (spec_key("trian.epochs", "3"), ["'trian'", "did you mean 'train'"]),
    "unknown key in a set": (arm("label: x, set: {moto.entities: 3}"), ["'x': moto.entities", "known: "]),
    "unknown key in a space": (
        space("moto.taux: {kind: float, low: 0.1, high: 1}"),
        ["'best': space: moto.taux", "did you mean 'tau'"],
    ),
    "unknown key of a dimension": (
        space("moto.n: {kind: int, lo: 1, high: 4}"),
        ["space.dimensions.moto.n.lo", "did you mean 'low'"],
    ),
    "unknown kind of dimension": (
        space("moto.n: {kind: integer, low: 1, high: 4}"),
        ["moto.n.kind", "'integer'", "did you mean 'int'"],
    ),
    "dimension outside its range": (
        space("moto.n: {kind: int, low: 0, high: 4}"),
        ["moto.n", "greater than or equal to 1", "not 0"],
    ),
    "dimension upside down": (space("moto.n: {kind: int, low: 8, high: 4}"), ["low 8 is above high 4"]),
    "choice that is none": (
        space("moto.partition: {kind: categorical, choices: [soft, medium]}"),
        ["moto.partition", "'soft' or 'hard'", "'medium'"],
    ),
    "condition on nothing": (
        space("moto.n: {kind: int, low: 1, high: 4, when: {motto: on}}"),
        ["unknown dimension 'motto'"],
    ),
    "unknown sampler": (
        arm("label: x, design: search, sampler: tpee, space: all.yaml"),
        ["arms[0].sampler", "'tpee'", "did you mean 'tpe'"],
    ),
    "space that is not there": (
        arm("label: x, design: search, space: spaces/all.yaml"),
        ["spaces/all.yaml", "no such file", "no folder"],
    ),
    "wrong type": (spec_key("train.lr", "fast"), ["train.lr", "must be a number", "'fast'"]),
    "value out of range": (spec_key("model.drop_path", "1.5"), ["model.drop_path", "less than 1", "1.5"]),
    "not a number": (spec_key("train.lr", ".nan"), ["train.lr", "finite", "nan"]),
    "list without a design": (
        arm("label: x, set: {moto.n: [2, 4]}"),
        ["moto.n", "whole number", "design: grid"],
    ),
    "unknown loss": (spec_key("tokenprop.loss", "l3"), ["tokenprop.loss", "'l3'", "'perceptual'"]),
    "unknown task": (("\nseeds:", "\ntask: clasification\nseeds:"), ["did you mean 'classification'"]),
    "unknown design": (("design: grid", "design: gird"), ["'gird'", "did you mean 'grid'"]),
    "field of another design": (
        ("design: grid", "design: grid, sampler: random"),
        ["sampler belongs to design search, not to grid"],
    ),
    "zip of unequal lists": (
        arm('label: "{n} {tau}", design: zip, set: {moto.n: [2, 4], moto.tau: [0.1, 0.2, 0.3]}'),
        ["moto.n has 2, moto.tau has 3"],
    ),
    "list without points": (arm("label: x, design: list"), ["design list needs `points`"]),
    "search without a space": (arm("label: x, design: search"), ["design search needs `space`"]),
    "label of an unknown field": (("n = {n}", "n = {m}"), ["{m} is not set here", "set here: moto.n"]),
    "two rows of one label": (("n = {n}", "n"), ["two rows are called 'n'", "{key}"]),
    "label of the baseline": (("label: base", "label: n = 2"), ["two rows are called 'n = 2'"]),
    "arm that sets nothing": (arm("label: x"), ["'x' sets nothing"]),
    "arm that changes nothing": (arm("label: x, set: {train.optimizer: adamw}"), ["'x' changes nothing"]),
    "no arms": (("arms:\n" + ARMS, "arms: []"), ["arms", "at least 1"]),
    "arms missing": (("arms:\n" + ARMS + "\n", ""), ["arms: is needed and missing"]),
    "seed twice": ((SEEDS, "\nseeds: [1, 1]\n"), ["seeds", "different whole numbers", "[1, 1]"]),
    "negative seeds": ((SEEDS, "\nseeds: -1\n"), ["seeds", "not -1"]),
    "seeds in words": ((SEEDS, "\nseeds: three\n"), ["seeds", "a whole number or a list", "'three'"]),
    "unknown stop": ((SEEDS, "\nseeds: 2\nstop: ahsa\n"), ["did you mean 'asha'"]),
    "reported row that is none": (
        ("reported: {baseline: 79.8, n = 2: 80.8}", "reported: {n = 3: 80}"),
        ["no row is called 'n = 3'", "rows: 'base'"],
    ),
    "name that is no name": (("study: tiny", "study: Tiny Study"), ["lower-case letters", "'Tiny Study'"]),
    "key twice": ((SEEDS, "\nseeds: 2\nseeds: 3\n"), ["tiny.yaml:9", "'seeds' is there twice", "line 8"]),
    "not YAML": ((SEEDS, "\nseeds: [2\n"), ["tiny.yaml:", "not valid YAML"]),
    "characters that YAML forbids": (("Does it", "Does\x00 it"), ["not valid YAML", "#x0000"]),
    "unknown base": ((SEEDS, "\nbase: recipes/deit.yaml\n"), ["recipes/deit.yaml", "no such file"]),
    "profile that sets what an arm declares": (
        ("set: {train.epochs: 8}", "set: {moto.n: 3}"),
        ["conflicting profile laptop", "moto.n", "'n = 2'", "`map`"],
    ),
    "profile that makes two rows equal": (
        ("set: {train.epochs: 8}", "map: {moto.n: {2: 4}}"),
        ["conflicting profile laptop", "moto.n = 2 to 4"],
    ),
    "unknown key of a profile": (
        ("set: {train.epochs: 8}", "sets: {train.epochs: 8}"),
        ["profiles.laptop.sets", "did you mean 'set'"],
    ),
}


@pytest.mark.parametrize(("change", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_study_files(ablator: Ablator, study: Path, change: tuple[str, str], said: list[str]) -> None:
    rewrite(study, *change)
    refused(ablator("run", study, "-p", "laptop"), *said)


@pytest.mark.parametrize(
    ("content", "said"), [("", "empty"), ("- study: x\n", "a list"), ("tiny\n", "text")], ids=repr
)
def test_a_file_that_is_no_study(ablator: Ablator, study: Path, content: str, said: str) -> None:
    study.write_text(content, encoding="utf-8")
    refused(ablator("plan", study), "mapping of keys", said)


def test_several_mistakes_are_told_at_once(ablator: Ablator, study: Path) -> None:
    rewrite(study, "\nquestion:", "\nquestoin:")
    rewrite(study, "\nseeds:", "\nseedz:")
    result = ablator("run", study)
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "  questoin", "  seedz"]


def test_recipes_in_a_circle(ablator: Ablator, study: Path) -> None:
    rewrite(study, SEEDS, "\nbase: a.yaml\n")
    study.with_name("a.yaml").write_text("base: b.yaml\n", encoding="utf-8")
    study.with_name("b.yaml").write_text("base: a.yaml\n", encoding="utf-8")
    refused(ablator("run", study), "circle", "a.yaml -> b.yaml -> a.yaml")


def test_a_recipe_with_an_unknown_key(ablator: Ablator, study: Path) -> None:
    rewrite(study, SEEDS, "\nbase: a.yaml\n")
    study.with_name("a.yaml").write_text("model: {nam: x}\n", encoding="utf-8")
    refused(ablator("run", study), "base: model.nam", "did you mean 'name'")


def test_an_unknown_study_file_names_its_neighbours(ablator: Ablator, study: Path) -> None:
    refused(ablator("run", study.with_name("tiney.yaml")), "no such file", "tiny.yaml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "lapptop"], ["unknown profile 'lapptop'", "did you mean 'laptop'"]),
        (["--set", "train.epochz=1"], ["train.epochz", "epochs"]),
        (["--set", "train.epochs"], ["--set key=value"]),
        (["--set", "=3"], ["--set key=value"]),
        (["--set", "train..epochs=3"], ["'train..epochs' is not a key"]),
        (["--set", "model.options={a: "], ["--set model.options={a: : not valid YAML"]),
        (["--set", "train.epochs=many"], ["train.epochs", "many"]),
        (["--set", "train=3"], ["train: must be a mapping, not 3"]),
        (["--set", "seed=3"], ["seed cannot be set", "seeds"]),
        (["--set", "seeds=0"], ["seeds", "not 0"]),
        (["--set", "moto.n=3"], ["moto.n", "declares"]),
        (["--set", "data.name=digitz"], ["digitz", "digits"]),
        (["--set", "augment.rand_augment=loud"], ["'loud'", "rand-m9-mstd0.5-inc1", "null"]),
        (["--set", "data.name=folder"], ["--set data.root=DIR", "--profile laptop"]),
        (["--set", "data.name=folder", "--set", "data.root=nowhere"], ["nowhere", "--profile laptop"]),
        (["--set", "data.name=folder", "--set", "data.root=tiny.yaml"], ["tiny.yaml", "is no folder"]),
        (["--set", "data.name=folder", "--set", "data.root=empty"], ["no class folders", "empty/cat/1.jpg"]),
        (["--set", "data.name=folder", "--set", "data.root=trees"], ["no images", "cat, dog", ".jpg"]),
        (["--set", "data.name=parquet"], ["--set data.root=PATH", "--profile laptop"]),
        (["--set", "data.name=parquet", "--set", "data.root=empty"], ["no .parquet file", "empty/data"]),
        (["--set", "data.name=parquet", "--set", "data.root=bad.parquet"], ["bad.parquet", "cannot be read"]),
        (
            ["--set", "data.name=cifar10", "--set", "data.root=empty"],
            ["cifar10", "empty", "--profile laptop"],
        ),
    ],
    ids=lambda value: value[-1] if value else "",
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_options(
    ablator: Ablator, study: Path, tmp_path: Path, command: str, options: list[str], said: list[str]
) -> None:
    for folder in ("empty", "trees/cat", "trees/dog", "home"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but no more")
    profile = [] if "--profile" in options else ["--profile", "laptop"]
    refused(ablator(command, study, *profile, *options), *said)


@pytest.mark.parametrize(
    ("name", "help_"), [("fashion_mnist", "apt-get install"), ("cifar10", "data.root=DIR")], ids=str
)
def test_data_that_is_not_on_this_machine(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, help_: str
) -> None:
    # Machines may have the Debian package, and what was fetched before.
    monkeypatch.setattr("ablator.data.fashion_mnist._DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A seed that no other test uses: a process opens data once.
    other = ("--set", "data.holdout_seed=77")
    result = ablator("run", study, "-p", "laptop", "--set", f"data.name={name}", *other)
    refused(result, name, str(tmp_path / "cache"), "ABLATOR_OFFLINE", help_, "--profile laptop")


# What fits no model or no data: the change of the study file, options, and what the error says.
MODELS = {
    "unknown backbone": (
        None,
        ["--set", "model.name=deit_smal_patch16_224"],
        ["'base'", "unknown model.name 'deit_smal_patch16_224'", "deit_small_patch16_224"],
    ),
    "backbone without seams": (
        None,
        ["--set", "model.name=resnet50"],
        ["'resnet50' exists in timm but has no seams", "vit, swin, pvt_v2"],
    ),
    "unknown option of the backbone": (
        None,
        ["--set", "model.options.embed_dims=64"],
        ["model.options.embed_dims", "did you mean 'embed_dim'"],
    ),
    "heads that do not divide": (None, ["--set", "model.options.num_heads=3"], ["num_heads=3", "divisible"]),
    "patches that do not fit": (None, ["--set", "data.image_size=30"], ["30", "28 or 32"]),
    "all stages of one": (
        arm("label: x, set: {moto.stages: all}"),
        [],
        ["'x'", "family 'vit' has one embedding", "moto.stages first"],
    ),
    "stem in a prime stride": (
        arm("label: x, set: {moto.placement: stem}"),
        ["--set", "model.options.patch_size=2"],
        ["moto.placement stem", "stride", "moto.placement post"],
    ),
    "blocks beyond the depth": (
        arm('label: x, set: {moto.blocks: "0:7"}'),
        [],
        ["'0:7'", "3 blocks", "between -3 and 3"],
    ),
    "blocks that are no slice": (arm("label: x, set: {moto.blocks: first}"), [], ["'first'", '"0:4"']),
    "component that is nowhere": (
        arm("label: x, set: {moto.placement: none}"),
        [],
        ["moto.placement none and moto.blocks null change nothing"],
    ),
    "decoder larger than the image": (
        arm("label: x, set: {tokenprop.scale: 48}"),
        [],
        ["tokenprop.scale 48 does not fit", "side 32", "from 4 to 32"],
    ),
    "decoder smaller than the features": (
        arm("label: x, set: {tokenprop.loss: contextual, tokenprop.scale: 8}"),
        [],
        ["tokenprop.scale 8 does not fit", "contextual loss", "to 32"],
    ),
    "unknown feature network": (
        arm("label: x, set: {tokenprop.features: vgg16}"),
        [],
        ["unknown feature network 'vgg16'", "did you mean 'vgg19'", "efficientnet_lite0"],
    ),
    "batch larger than the data": (
        None,
        ["--set", "train.batch_size=4096"],
        ["4096", "1438 training images of digits"],
    ),
    "batch larger than its fraction": (
        None,
        ["--set", "data.fraction=0.01"],
        ["train.batch_size 32", "data.fraction 0.01"],
    ),
    "odd batch that is mixed": (
        None,
        ["--set", "train.batch_size=33", "--set", "train.mixup=0.8"],
        ["33", "must be even", "32 and 34", "mixup: 0"],
    ),
    "unknown metric": (
        ("metric: top1", "metric: topp1"),
        [],
        ["report.metric is 'topp1'", "did you mean 'top1'", "top1, top5, val_loss"],
    ),
    "metric of training": (("metric: top1", "metric: train_loss"), [], ["'train_loss'", "val_loss"]),
    "metric of an average that is off": (
        ("metric: top1", "metric: ema_top1"),
        [],
        ["'ema_top1'", "train.ema_decay"],
    ),
}


@pytest.mark.parametrize(("change", "options", "said"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_cannot_be_built(
    ablator: Ablator,
    study: Path,
    command: str,
    change: tuple[str, str] | None,
    options: list[str],
    said: list[str],
) -> None:
    rewrite(study, ", reported: {baseline: 79.8, n = 2: 80.8}", "")
    if change is not None:
        rewrite(study, *change)
    refused(ablator(command, study, "-p", "laptop", *options), *said)


def test_an_average_that_is_on_is_a_metric(ablator: Ablator, study: Path) -> None:
    rewrite(study, "metric: top1", "metric: ema_top1")
    assert ablator("plan", study, "-p", "laptop", "-s", "train.ema_decay=0.99").exit_code == 0


def test_a_batch_that_does_not_divide_over_the_workers(ablator: Ablator, study: Path) -> None:
    result = ablator("run", study, "-p", "laptop", "--workers", "3")
    refused(result, "train.batch_size", "32", "= 3", "30 and 33")


def test_weights_that_cannot_be_had(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    rewrite(study, "seeds: 2}, mine", "map: {tokenprop.features: {vgg19: vgg19}}}, mine")
    rewrite(study, *arm('label: "n = 2", set: {tokenprop.loss: perceptual, tokenprop.scale: 32}'))
    refused(
        ablator("run", study, "-p", "laptop"),
        "'n = 2'",
        "'vgg19'",
        "efficientnet_lite0",
        "vgg19-dcbb9e9d.pth",
    )


# ---- the store


def kept(store: Path) -> int:
    """Final records."""
    return len(list((store / "ledger").glob("??/*.json")))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_mistake_in_the_last_study_shows_before_the_first_is_run(
    ablator: Ablator, study: Path, fill: Fill
) -> None:
    store = fill()
    refused(ablator("run", study, "nope.yaml", "-p", "laptop", "--store", store), "nope.yaml")
    assert not (store / "reports").exists()


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_store_that_is_a_file(ablator: Ablator, study: Path, command: str) -> None:
    refused(ablator(command, study, "-p", "laptop", "--store", study), str(study), "--store")


def test_a_store_below_a_file(ablator: Ablator, study: Path) -> None:
    refused(ablator("run", study, "-p", "laptop", "--store", study / "store"), str(study))


@pytest.mark.parametrize("name", ["ledger", "checkpoints", "tickets", "reports", "outbox", "scratch"])
def test_a_file_where_the_store_keeps_a_folder(
    ablator: Ablator, study: Path, tmp_path: Path, name: str
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / name).write_text("mine", encoding="utf-8")
    refused(ablator("run", study, "-p", "laptop", "--store", store), str(store / name), "--store DIR")
    assert (store / name).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_a_damaged_record_is_named_with_what_helps(
    ablator: Ablator, study: Path, fill: Fill, command: str
) -> None:
    store = fill()
    path = sorted((store / "ledger").glob("??/*.json"))[0]
    flip(path)
    refused(ablator(command, study, "-p", "laptop", "--store", store), str(path), "--repair")
    assert kept(store) == 6


def test_repair_moves_a_damaged_record_aside(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill()
    path = sorted((store / "ledger").glob("??/*.json"))[0]
    flip(path)
    # As far as a run gets without training what is missing now.
    refused(ablator("run", study, "-p", "laptop", "--store", store, "--repair", "--cpus", "1000"), "1000 CPU")
    assert not path.exists()
    assert [p.name for p in (store / "ledger" / "quarantine").iterdir()] == [f"{path.stem}.1.json"]
    assert kept(store) == 5
    result = ablator("status", study, "-p", "laptop", "--store", store)
    assert "5 completed" in result.stdout
    assert "1 missing" in result.stdout


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "damaged"])
def test_a_checkpoint_is_read_before_anything_goes_on_from_it(
    ablator: Ablator, study: Path, fill: Fill, whole: bool
) -> None:
    store = fill({("base", 0): None})
    identity = api.plan(study, profile="laptop").trials[0].identity
    path = Store(store).checkpoint(identity)
    checkpoint.save(path, identity, {"epoch": 1})
    run = ("run", study, "-p", "laptop", "--store", store, "--mlflow", "off", "--cpus", "1000")
    if whole:
        refused(ablator(*run), "1000 CPU")
        assert checkpoint.load(path, identity) == {"epoch": 1}
        return
    flip(path)
    refused(ablator(*run), str(path), "damaged", "--repair", "from its beginning")
    assert path.exists()
    refused(ablator(*run, "--repair"), "1000 CPU")
    assert not path.exists()
    assert (store / "checkpoints" / "quarantine" / f"{identity}.pt").exists()
    assert kept(store) == 5


def test_a_damaged_search_journal(ablator: Ablator, study: Path, tmp_path: Path) -> None:
    rewrite(study, ", reported: {baseline: 79.8, n = 2: 80.8}", "")
    rewrite(study, *space("moto.n: {kind: int, low: 1, high: 4}"))
    search = api.plan(study, profile="laptop").searches[0]
    path = Store.open(tmp_path / "store").journal(f"tiny-{search.id}").path
    path.parent.mkdir()
    path.write_bytes(b"garbage\n")
    for command in ("run", "report", "status"):
        refused(ablator(command, study, "-p", "laptop", "--store", tmp_path / "store"), str(path), "line 1")


def test_a_metric_that_finished_trials_do_not_have(ablator: Ablator, study: Path, fill: Fill) -> None:
    store = fill()
    rewrite(study, "metric: top1", "metric: topp1")
    for command in ("run", "report"):
        result = ablator(command, study, "-p", "laptop", "--store", store)
        refused(result, "'topp1'", "did you mean 'top1'")
    assert kept(store) == 6


# ---- MLflow and the cluster


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_stopped_mlflow_server(ablator: Ablator, study: Path, fill: Fill) -> None:
    port = unused_port()
    uri = f"http://me:secret@127.0.0.1:{port}"
    store = fill({("base", 0): None})
    result = ablator("run", study, "-p", "laptop", "--store", store, "--mlflow", uri)
    refused(result, f"http://127.0.0.1:{port}", "does not answer", "--mlflow off")
    assert "secret" not in result.output
    assert kept(store) == 5


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "gopher://x"])
def test_an_mlflow_that_cannot_be_written_to(ablator: Ablator, study: Path, fill: Fill, uri: str) -> None:
    refused(ablator("run", study, "-p", "laptop", "--store", fill(), "--mlflow", uri), uri)


def test_slots_that_do_not_fit(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch, fill: Fill
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    store = fill({("base", 0): None})
    run = ("run", study, "-p", "laptop", "--store", store, "--mlflow", "off")
    cpus = os.cpu_count()
    refused(ablator(*run, "--gpus", "4"), "4 GPU", f"this machine has {cpus} CPU and 0 GPU", "--gpus")
    refused(ablator(*run, "--cpus", "1000"), "1000 CPU", f"{cpus} CPU", "--cpus")
    refused(ablator(*run, "--slots", "999"), "--slots 999", f"{cpus} slot(s)")
    assert kept(store) == 5


def test_a_cluster_that_does_not_answer(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch, fill: Fill
) -> None:
    run = ("run", study, "-p", "laptop", "--store", fill({("base", 0): None}), "--mlflow", "off")
    address = f"127.0.0.1:{unused_port()}"
    for said in (address, f"ray://{address}", "cluster"):
        refused(ablator(*run, "--address", said), f"--address {said}: nothing answers", "ray start", "local")
    monkeypatch.setenv("RAY_ADDRESS", address)
    refused(ablator(*run), f"RAY_ADDRESS={address}: nothing answers")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["rum"],
        ["run", "x.yaml", "--slots", "0"],
        ["run", "x.yaml", "--profil", "laptop"],
        ["run", "x.yaml", "--workers", "two"],
        ["report", "x.yaml", "--format", "word"],
    ],
    ids=" ".join,
)
def test_a_typo_in_the_command_itself(ablator: Ablator, arguments: list[str]) -> None:
    result = ablator(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: ablator" in result.stderr


def test_an_interruption_says_how_to_go_on(
    ablator: Ablator, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablator.api.plan", interrupted)
    result = ablator("run", study)
    assert result.exit_code == 130
    assert "interrupted: run the same command again to go on" in result.stderr


# ---- in a process of its own


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "model.name=resnet50"], "no seams"),
        (["--address", "127.0.0.1:1"], "nothing answers"),
    ],
    ids=["model", "address"],
)
def test_nothing_else_is_printed(study: Path, fill: Fill, options: list[str], said: str) -> None:
    store = fill({("base", 0): None})
    command = [sys.executable, "-m", "ablator", "run", str(study), "-p", "laptop", "--store", str(store)]
    done = subprocess.run(
        [*command, *options], cwd=study.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert kept(store) == 5
