"""From a file for Ray's cluster launcher to how its head is reached by SSH."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ablator.contracts.reading import read_file
from ablator.errors import ClusterError, SettingError

_MOST_BYTES = 512 * 2**10
_SSH_SECONDS = 20
_DASHBOARD_PORT = 8265
_PORT = re.compile(r"--dashboard-port[= ](\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """The head node of a cluster that is up, as ssh is told."""

    file: Path
    """The cluster file."""
    name: str
    """The cluster's own."""
    target: str
    """user@host."""
    options: tuple[str, ...]
    """Key, proxy and the rest, as Ray's own launcher gives them."""
    port: int
    """The job server's (the dashboard's) on the head's loopback interface."""


def cluster_document(path: Path) -> dict[str, Any]:
    """The cluster file at `path`, which Ray's own schema accepts. Raises SettingError."""
    try:
        document = yaml.safe_load(read_file(path, _MOST_BYTES).decode("utf-8"))
    except OSError as error:
        raise SettingError(
            f"--cluster {path} cannot be read ({error.strerror}); it is a file for `ray up`, such as "
            "cluster.yaml, or the address of a job server, http://HOST:8265"
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"--cluster {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not isinstance(document.get("provider"), dict):
        raise SettingError(
            f"--cluster {path} is no cluster file: it has no `provider`; one is what `ray up` takes, such as "
            "cluster.yaml"
        )
    _check(document, path)
    return document


def head_of(path: Path) -> Head:
    """The head of the cluster that `ray up` made from the file at `path`.

    Raises SettingError for a file that Ray does not accept, ClusterError where the cluster is not up.
    """
    document = cluster_document(path)
    from ray.autoscaler._private import commands
    from ray.autoscaler._private.command_runner import SSHOptions

    try:
        with _quiet():
            # What the launcher itself does before it opens a connection; a cloud's key is in it then.
            config = commands._bootstrap_config(document)
            provider = commands._get_node_provider(config["provider"], config["cluster_name"])
            node = commands._get_running_head_node(config, str(path), None)
            inside = config["provider"].get("use_internal_ips", False)
            address = provider.internal_ip(node) if inside else provider.external_ip(node)
    # It ends with whatever the cloud's library has to say.
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(
            f"--cluster {path}: the cluster {document['cluster_name']} is not up, as far as this machine "
            f"knows ({why}); `ray up {path}` starts it"
        ) from error
    auth = config["auth"]
    options = SSHOptions(auth.get("ssh_private_key"), None, ProxyCommand=auth.get("ssh_proxy_command"))
    host = node if auth.get("ssh_proxy_use_node_id") else address
    return Head(
        file=path,
        name=config["cluster_name"],
        target=f"{auth['ssh_user']}@{host}",
        options=tuple(options.to_ssh_options_list(timeout=_SSH_SECONDS)),
        port=_port(document),
    )


def _check(document: dict[str, Any], path: Path) -> None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        with _quiet():
            validate_config(prepare_config(copy.deepcopy(document)))
    except jsonschema.ValidationError as error:
        where = ".".join(str(key) for key in error.absolute_path)
        raise SettingError(
            f"--cluster {path}: {where or 'the file'}: {error.message}; cluster.yaml and clusters/ have the "
            "keys that `ray up` takes"
        ) from None
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise SettingError(f"--cluster {path}: `ray up` would refuse it: {why}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The launcher prints and logs as it goes along, and standard output may belong to a program; it leaves
    files open."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            yield
    finally:
        logging.disable(before)


def _port(document: dict[str, Any]) -> int:
    found = [_PORT.search(line) for line in document.get("head_start_ray_commands", ())]
    return next((int(match[1]) for match in found if match), _DASHBOARD_PORT)
