"""What is known to be secret is taken out of texts, and nothing else is."""

from __future__ import annotations

import html

import pytest

from ablator.contracts.secrets import scrubbed, scrubbed_plain, secret_in

# From pieces, so that no scanner of repositories takes them for real ones.
PRIVATE = "-----BEGIN " + "PRIVATE KEY-----\nMIIabc\n-----END " + "PRIVATE KEY-----"
TOKENS = ["AK" + "IA" + "Q3EGRIWLEQF2ABCD", "gh" + "p_" + "a1B2" * 9, "h" + "f_" + "Zz9" * 12, PRIVATE]


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY", "RAY_AUTH_TOKEN"),
        *("PGPASSWORD", "MYSQL_PWD", "MY_PASSPHRASE", "api_key", "AZURE_STORAGE_KEY"),
    ],
)
def test_the_value_of_a_secret_variable_becomes_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "pl4nted & s3cret/\\value")
    text = f"401 for 'pl4nted & s3cret/\\value', {html.escape('pl4nted & s3cret/')}"
    assert scrubbed(text).startswith(f"401 for '«{name}»'")
    assert scrubbed(repr({"k": "pl4nted & s3cret/\\value"})) == f"{{'k': '«{name}»'}}"
    assert "s3cret" not in scrubbed("https://x/?u=pl4nted%20%26%20s3cret%2F%5Cvalue")
    assert secret_in(text) == f"the value of {name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "short"),
        ("HF_TOKEN_PATH", "the/place/of/it"),
        ("PWD", "the/working/folder"),
        ("TOKENIZERS_PARALLELISM", "disabled-here"),
        ("DATA_KEY", "imagenet"),
        ("RAY_AUTH_MODE", "token-or-not"),
    ],
)
def test_other_variables_stay(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert scrubbed(f"say {value}") == f"say {value}"


def test_a_password_in_a_variable_with_a_uri_is_known_without_the_uri(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2hunter2@db/runs")
    assert scrubbed("FATAL: no login with hunter2hunter2") == "FATAL: no login with «DATABASE_URL»"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("get https://me:pa55@w0rd@host/x failed", "get https://***@host/x failed"),
        ("url = https://sometoken@git.example/x.git", "url = https://***@git.example/x.git"),
        ("s3://key:hidden@bucket", "s3://***@bucket"),
        ("ssh://git@host/x and hdfs://me@host/x", "ssh://git@host/x and hdfs://me@host/x"),
        ("https://host/x?a=1&X-Amz-Signature=abc&b=2", "https://host/x?a=1&X-Amz-Signature=***&b=2"),
        ("Authorization: Bearer abcdefgh1234", "Authorization: Bearer ***"),
        ("f'https://{user}:{password}@host'", "f'https://{user}:{password}@host'"),
        ("http://host:5000/#/experiments/1 mail a@b.c", "http://host:5000/#/experiments/1 mail a@b.c"),
        *((f"it is {token}.", "it is ***.") for token in TOKENS),
    ],
)
def test_forms_that_give_secrets_away(text: str, left: str) -> None:
    assert scrubbed(text) == left
    assert scrubbed(left) == left
    assert (secret_in(text) is None) == (text == left)


def test_plain_data_keeps_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "pl4nted-s3cret")
    data = {"a": ["pl4nted-s3cret", 1, None, True], "b": {"c": 0.5}}
    assert scrubbed_plain(data) == {"a": ["«HF_TOKEN»", 1, None, True], "b": {"c": 0.5}}
