"""What must not be written down: passwords and tokens, and how they are taken out of texts.

Known are the values of environment variables whose names say that they are secret, the passwords in URIs, and
tokens of well-known forms. A secret that looks like any other word is not known, and stays.
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

LEAST_LETTERS = 8
"""Shorter values of variables are left alone: they are words that occur anywhere."""
_LEAST_LETTERS_OF_KEYS = 16
HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:SECRETS?|TOKEN|PASSWD|PASSPHRASE|CREDENTIALS?|(?:API|ACCESS|SECRET|PRIVATE)_?KEY)(?:_|\d|$)"
    r"|PASSWORD|(?:_|SSH)PASS$|_PWD$",
    re.IGNORECASE,
)
_KEY_NAME = re.compile(r"(?:^|_)KEY$", re.IGNORECASE)
_NO_SECRET_NAME = re.compile(
    r"(?:_(?:FILE|PATH|DIR|SOCK|MODE|HOME|ID|NAME|URL|URI)|^PWD|^OLDPWD)$",
    re.IGNORECASE,
)

_NO_PASSWORD = r"(?!\*+@|[^\s/@]*:\*+@|[^\s/@]*[{<$%][\w({])"
"""What stands in a password's place: stars, or a name that something else fills in."""


class _Form(NamedTuple):
    """A kind of secret that its form gives away."""

    what: str
    hints: tuple[str, ...]
    """One of these is in every text that has it, in small letters: looking for them is much faster."""
    pattern: re.Pattern[str]
    instead: str


_FORMS = (
    # Of http a user alone is a token; elsewhere (ssh://git@...) it is a name.
    _Form(
        "a password in a URI",
        ("@",),
        re.compile(rf"(\bhttps?://){_NO_PASSWORD}[^\s/'\"<>]+@", re.IGNORECASE),
        rf"\1{HIDDEN}@",
    ),
    _Form(
        "a password in a URI",
        ("@",),
        re.compile(rf"(\b[a-z][a-z0-9+.-]*://){_NO_PASSWORD}[^\s/'\"<>:@]*:[^\s/'\"<>]+@", re.IGNORECASE),
        rf"\1{HIDDEN}@",
    ),
    _Form(
        "a secret in the query of a URI",
        ("?", "&"),
        re.compile(
            r"((?:[?&]|&amp;)(?:[\w.-]*(?:token|secret|password|passwd|signature|credential|api_?key|access_?key)"
            r"[\w.-]*|sig|key)=)(?!\*|[{<$%][\w({])[^&\s'\"<>#]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    _Form(
        "the credentials of a request",
        ("authorization",),
        re.compile(
            r"(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)[\w.~+/=-]{8,}", re.IGNORECASE
        ),
        rf"\1{HIDDEN}",
    ),
    _Form(
        "a private key",
        ("private key-----",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        HIDDEN,
    ),
    _Form(
        "a token",
        ("akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "xox"),
        re.compile(
            r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}"
            r"|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|xox[abprs]-[\w-]{10,})(?![A-Za-z0-9])"
        ),
        HIDDEN,
    ),
)


def scrubbed(text: str) -> str:
    """`text` without secrets: «NAME» in the place of a variable's value, *** in that of other ones."""
    return _scrubbed(text, *_values_of_variables())


def _scrubbed(text: str, pattern: re.Pattern[str] | None, names: Mapping[str, str]) -> str:
    if pattern is not None:
        text = pattern.sub(lambda match: f"«{names[match[0]]}»", text)
    for form in _likely(text):
        text = form.pattern.sub(form.instead, text)
    return text


def _likely(text: str) -> list[_Form]:
    small = text.lower()
    return [form for form in _FORMS if any(hint in small for hint in form.hints)]


def scrubbed_plain(value: Any) -> Any:
    """The same for every text in plain data; keys stay."""
    # The environment is looked through once, not for every text of a record.
    return _scrubbed_plain(value, *_values_of_variables())


def _scrubbed_plain(value: Any, pattern: re.Pattern[str] | None, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _scrubbed(value, pattern, names)
    if isinstance(value, Mapping):
        return {key: _scrubbed_plain(item, pattern, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed_plain(item, pattern, names) for item in value]
    return value


def secret_in(text: str) -> str | None:
    """What secret `text` holds, such as `the value of HF_TOKEN`; None where none is known."""
    pattern, names = _values_of_variables()
    if pattern is not None and (match := pattern.search(text)):
        return f"the value of {names[match[0]]}"
    return next((form.what for form in _likely(text) if form.pattern.search(text)), None)


def without_secrets(uri: str) -> str:
    """`uri` without user, password, query and fragment."""
    return split_uri(uri)[0]


def split_uri(uri: str) -> tuple[str, str, str]:
    """Address, user with password, and query. By hand, because the standard library's functions lose a
    slash of `sqlite:////path` and stop at a `#` or `?` in a password."""
    scheme, separator, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    address, *query = re.split(r"[?#]", f"{scheme}{separator}{host}{slash}{path}", maxsplit=1)
    return address, user, "".join(query)


def _values_of_variables() -> tuple[re.Pattern[str] | None, Mapping[str, str]]:
    """What finds the secret values of this process's environment, and each value's variable."""
    return _pattern(_known_variables(tuple(os.environ.items())))


@functools.lru_cache(maxsize=2)
def _known_variables(environment: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Remembered, because every record asks and the environment hardly ever changes."""
    return tuple(_secret_variables(dict(environment)))


def _secret_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if "://" in value and not re.search(r"\s", value):
            # Such as DATABASE_URL: its password may be quoted without the rest.
            password = split_uri(value)[1].partition(":")[2]
            if len(password) >= LEAST_LETTERS:
                yield name, password
        if _NO_SECRET_NAME.search(name):
            continue
        least = LEAST_LETTERS if _SECRET_NAME.search(name) else _LEAST_LETTERS_OF_KEYS
        if len(value.strip()) >= least and (_SECRET_NAME.search(name) or _KEY_NAME.search(name)):
            yield name, value.strip()


@functools.lru_cache(maxsize=8)
def _pattern(variables: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str] | None, Mapping[str, str]]:
    names = {form: name for name, value in variables for form in _forms(value)}
    if not names:
        return None, names
    # The longest first: a secret may begin with another one.
    found = "|".join(re.escape(form) for form in sorted(names, key=len, reverse=True))
    return re.compile(found), names


def _forms(value: str) -> Iterator[str]:
    """A value as texts may quote it: by itself, in a URI, in a literal, on a page, line by line."""
    for part in {value, *(line.strip() for line in value.splitlines())}:
        if len(part) >= LEAST_LETTERS:
            yield from (part, quote(part, safe=""), unquote(part), repr(part)[1:-1])
            yield from (json.dumps(part)[1:-1], html.escape(part))
