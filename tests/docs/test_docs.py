"""What the documentation says is so: links, commands, keys, examples and schemas."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import ablator
from ablator.plan import json_schema as schemas
from ablator.plan.planning import Plan, plan
from ablator.plan.spec import SECTIONS, optional_sections
from ablator.registry import DATASETS, FEATURE_NETWORKS
from ablator.study import yaml
from ablator.study.loading import load, recipe
from ablator.study.schema import Profile, Study
from ablator.study.spaces import SearchSpace, SpaceDocument
from ablator.study.validation import json_schema, validate

ROOT = Path(__file__).parents[2]
SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "study": schemas.study_schema,
    "recipe": schemas.recipe_schema,
    "profile": schemas.profile_schema,
    "space": schemas.space_schema,
}


# ---- links


def _anchors(text: str) -> set[str]:
    """What GitHub makes of headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_relative_link_leads_somewhere(docs: Any) -> None:
    lost = []
    for file, text in docs.texts.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            place = (ROOT / file).parent / path if path else ROOT / file
            if not place.exists() or (anchor and anchor not in _anchors(place.read_text(encoding="utf-8"))):
                lost.append(f"{file}: {target}")
    assert not lost


def test_the_readme_is_short_and_shows_the_table_of_its_study(docs: Any) -> None:
    text = docs.texts["README.md"]
    assert text.count("\n") < 200
    table = re.search(r"<!-- table -->\n(.*?)\n<!-- /table -->", text, re.DOTALL)
    assert table is not None
    labels = [line.split("|")[1].strip() for line in table[1].splitlines()[2:]]
    planned = _plan(load(ROOT / "experiments" / "moto_n.yaml"), profile="laptop")
    assert [re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹,]+$", "", label) for label in labels] == [arm.label for arm in planned.arms]


# ---- commands


@pytest.fixture(scope="module")
def command() -> Any:
    """The whole command line, as click sees it."""
    from ablator.cli import diff, explaining, figures, studies, upkeep  # noqa: F401 (they add their commands)
    from ablator.cli.app import app

    return typer.main.get_command(app)


def _command_lines(docs: Any) -> Iterator[tuple[str, list[str]]]:
    """Every `ablator ...` of the shell blocks and of the running text, as arguments."""
    for block in docs.blocks("sh"):
        for line in block.text.splitlines():
            for part in re.split(r"&&|\|(?!off)|>|\"(?=cd )", line.partition("  #")[0]):
                words = part.strip().rstrip('"')
                if words.startswith("ablator "):
                    yield f"{block.file}: {words}", shlex.split(words)[1:]
    for file, text in docs.texts.items():
        for words in re.findall(r"`ablator ([a-z][^`]*)`", text):
            yield f"{file}: ablator {words}", shlex.split(words)


def test_every_command_in_the_docs_is_one(docs: Any, command: Any) -> None:
    seen = set()
    for where, arguments in _command_lines(docs):
        name, *rest = arguments
        assert name in command.commands, where
        seen.add(name)
        if rest:
            # Parses and checks the options without running anything; a wrong one raises.
            command.commands[name].make_context(name, rest, parent=command.context_class(command))
    assert seen == set(command.commands), "every command is shown somewhere"


def test_every_option_that_the_docs_name_is_there(docs: Any, command: Any) -> None:
    known: set[str] = set()
    for one in [command, *command.commands.values()]:
        known |= {
            option for parameter in one.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
    for file in ("docs/running.md", "docs/study-files.md"):
        text = re.sub(r"```sh\n.*?```", "", docs.texts[file], flags=re.DOTALL)
        named = set(re.findall(r"`(--[a-z][a-z-]+)", text))
        assert named <= known, f"{file}: {sorted(named - known)}"
    options = {option for parameter in command.commands["run"].params for option in parameter.opts}
    options = {option for option in options if option.startswith("--")} - {"--help"}
    text = docs.texts["docs/running.md"] + docs.texts["docs/study-files.md"]
    assert {option for option in options if option not in text} == set()


def test_python_examples_parse_and_use_names_that_exist(docs: Any) -> None:
    blocks = docs.blocks("python")
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block.text)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "ablator"
            ):
                assert node.attr in ablator.__all__, block.file


# ---- studies


def _plan(study: Study, **options: Any) -> Plan:
    return plan(study, fingerprint=lambda data: data.name, **options)


@pytest.mark.usefixtures("no_traces")
def test_every_yaml_example_is_valid(docs: Any, checkout: Path) -> None:
    kinds = []
    for block in docs.blocks("python"):
        if block.path:
            (checkout / "experiments" / Path(block.path).name).write_text(block.text, encoding="utf-8")
    for number, block in enumerate(docs.blocks("yaml")):
        document = yaml.parse(block.text, block.file)
        where = f"{block.file}: example {number}"
        if "arms" in document:
            path = checkout / "experiments" / f"example_{number}.yaml"
            path.write_text(block.text, encoding="utf-8")
            planned = _plan(load(path))
            assert planned.trials
            kinds.append("study")
        elif "dimensions" in document:
            SearchSpace(validate(SpaceDocument, document, where), where)
            kinds.append("space")
        elif "about" in document:
            validate(Profile, document, where)
            kinds.append("profile")
        else:
            path = checkout / "recipes" / f"example_{number}.yaml"
            path.write_text(block.text, encoding="utf-8")
            study = {
                "study": "s",
                "base": recipe(path, where),
                "arms": [{"label": "a", "set": {"moto.n": 4}}],
            }
            assert _plan(validate(Study, study, where)).trials
            kinds.append("recipe")
    assert set(kinds) == set(SCHEMAS)


def test_every_key_of_a_trial_is_documented_with_its_default(docs: Any) -> None:
    rows = dict(
        re.findall(r"^\| `([a-z]+\.[a-z_0-9]+)` \| `([^`]*)` \|", docs.texts["docs/study-files.md"], re.M)
    )
    expected = {}
    for name, cls in {**SECTIONS, **optional_sections()}.items():
        for key, field in json_schema(cls)["properties"].items():
            expected[f"{name}.{key}"] = json.dumps(field["default"]) if "default" in field else "{}"
    assert rows == expected


def test_every_key_of_a_study_is_documented(docs: Any) -> None:
    text = docs.texts["docs/study-files.md"]
    definitions = {"Study": schemas.study_schema(), **schemas.study_schema()["$defs"]}
    for name in ("Study", "Arms", "Stop", "Report", "Profile", "Dimension"):
        for key in definitions[name]["properties"]:
            assert re.search(rf"`{key}\b|\b{key}: ", text), f"{name}.{key}"


def test_every_data_set_and_network_is_documented(docs: Any) -> None:
    for name in (*DATASETS.names(), *FEATURE_NETWORKS.names()):
        assert f"| `{name}` |" in docs.texts["docs/data-and-weights.md"]


# ---- schemas


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_files_are_what_the_code_gives(kind: str) -> None:
    written = json.loads((ROOT / "docs" / "schema" / f"{kind}.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(SCHEMAS[kind]())), "write it again: docs/extending.md says how"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("experiments", "study"),
        ("recipes", "recipe"),
        ("recipes/profiles", "profile"),
        ("search_spaces", "space"),
    ],
)
def test_shipped_files_name_the_schema_that_an_editor_finds(folder: str, kind: str) -> None:
    for path in (ROOT / folder).glob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert named is not None, path
        assert (path.parent / named[1]).resolve() == ROOT / "docs" / "schema" / f"{kind}.json", path
