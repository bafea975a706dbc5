"""`--cluster` on the command line: what is refused before anything is sent, and what is passed on."""

from __future__ import annotations

import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from ablator.cli import remote, studies  # noqa: F401 (it adds its commands)
from ablator.cli.app import app
from ablator.errors import ClusterError
from ablator.remote.head import Head, head_of
from ablator.remote.tunnel import Tunnel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, tiny_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "ABLATOR_STORE"):
        monkeypatch.delenv(name, raising=False)


def _ablator(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words), prog_name="ablator")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _refused(*words: str) -> str:
    result = _ablator(*words)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("error: ")
    return errors[0]


def _refused_apart(*words: str) -> str:
    """The same in a process of its own: Ray keeps the mode of its tokens from when it was first loaded."""
    command = [sys.executable, "-m", "ablator", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line]
    return error


def _cluster(**changes: Any) -> str:
    """A file like clusters/onpremise.yaml."""
    document = yaml.safe_load((ROOT / "clusters" / "onpremise.yaml").read_text(encoding="utf-8"))
    document |= {"cluster_name": "nobody-started-this-one", **changes}
    Path("mine.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return "mine.yaml"


@pytest.mark.parametrize("command", ["run", "status", "report"])
def test_a_cluster_file_that_is_none(command: str) -> None:
    assert "mine.yaml cannot be read (No such file" in _refused(
        command, "tiny.yaml", "--cluster", "mine.yaml"
    )
    assert "no `provider`" in _refused(command, "tiny.yaml", "--cluster", "tiny.yaml")


def test_a_cluster_file_that_ray_would_refuse() -> None:
    said = _refused("run", "tiny.yaml", "--cluster", _cluster(idle_timeout_minute=3))
    assert "'idle_timeout_minute' was unexpected" in said
    assert "auth.ssh_user" in _refused("run", "tiny.yaml", "--cluster", _cluster(auth={"ssh_user": 3}))


def test_a_cluster_that_is_not_up() -> None:
    said = _refused("run", "tiny.yaml", "--cluster", _cluster())
    assert "the cluster nobody-started-this-one is not up" in said
    assert "`ray up mine.yaml` starts it" in said


def test_two_clusters_at_once() -> None:
    said = _refused("run", "tiny.yaml", "--cluster", "a.yaml", "--address", "http://there:8265")
    assert "two clusters" in said
    assert "give one of them" in _refused("run", "tiny.yaml", "--cluster", "a.yaml", "--address", "auto")


def test_a_job_server_that_is_away() -> None:
    said = _refused_apart("run", "tiny.yaml", "--address", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: no job server answers" in said


class _Closed(http.server.BaseHTTPRequestHandler):
    """Answers as a cluster whose token is another one."""

    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization"))
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"Unauthorized")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def closed() -> Iterator[str]:
    _Closed.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_token_that_is_missing_or_another_one(closed: str) -> None:
    assert "asks for a token" in _refused_apart("run", "tiny.yaml", "--address", closed)
    Path(".ray").mkdir()
    Path(".ray/auth_token").write_text("abc123\n", encoding="utf-8")
    said = _refused_apart("status", "tiny.yaml", "--cluster", closed)
    assert "does not take the token of this machine" in said
    assert _Closed.asked == [None, "Bearer abc123"]


def test_a_program_is_told_as_well(closed: str) -> None:
    result = _ablator("status", "tiny.yaml", "--json", "--cluster", closed)
    assert "asks for a token" in json.loads(result.stdout)["error"]


def test_an_ssh_that_does_not_get_through() -> None:
    options = ("-o", "ProxyCommand=sh -c 'echo gateway says no >&2; exit 1'", "-F", "none")
    head = Head(file=Path("a.yaml"), name="a", target="me@there", options=options, port=8265)
    with pytest.raises(ClusterError, match=r"ssh does not get to the head, me@there \("):
        Tunnel(head).url()


def test_the_head_is_reached_as_the_file_says(tmp_path: Path) -> None:
    """What the launcher keeps of a cluster that is up is a file of its own."""
    from ray.autoscaler._private.local.config import get_state_path

    name = f"ablator-test-{tmp_path.name}-{id(tmp_path)}"
    provider = {"type": "local", "head_ip": "127.0.0.9", "worker_ips": []}
    auth = {"ssh_user": "me", "ssh_private_key": "~/k", "ssh_proxy_command": "nc %h 2222"}
    starts = ["ray stop", "ray start --head --dashboard-port=8299"]
    file = _cluster(cluster_name=name, provider=provider, auth=auth, head_start_ray_commands=starts)
    state = Path(get_state_path(name))
    tags = {"ray-node-type": "head", "ray-node-status": "up-to-date"}
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"127.0.0.9": {"tags": tags, "state": "running"}}), encoding="utf-8")
    try:
        head = head_of(Path(file))
    finally:
        for path in state.parent.glob(f"cluster-{name}.*"):
            path.unlink()
    assert (head.name, head.target, head.port) == (name, "me@127.0.0.9", 8299)
    assert head.options[:2] == ("-i", "~/k")
    assert "ProxyCommand=nc %h 2222" in head.options


def _archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_report_is_unpacked_into_its_folder_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    assert remote._unpacked(_archive("tiny/laptop/table.md", b"| a |"), folder) == ["tiny/laptop/table.md"]
    assert (folder / "tiny/laptop/table.md").read_bytes() == b"| a |"
    for content in (_archive("../outside.md", b"no"), b"no archive"):
        with pytest.raises(ClusterError, match="the report cannot be written"):
            remote._unpacked(content, folder)
    assert not (tmp_path / "outside.md").exists()


def test_a_program_is_told_where_the_files_are_here() -> None:
    said = {"planned": 2, "page": "/mnt/shared/store/reports/tiny/laptop/page.html"}
    names = ["tiny/laptop/page.html"]
    found = remote._placed({**said, "studies": [said]}, Path("here"), names)
    assert found["page"] == found["studies"][0]["page"] == "here/tiny/laptop/page.html"


def test_what_was_given_here_is_passed_on_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in this machine's environment is this machine's."""
    given: list[list[str]] = []

    def take(ctx: typer.Context, where: str, form: str | None = None) -> None:
        given.append(remote._options(ctx, skip=remote._HERE))
        given.append(remote._options(ctx, only=remote._WHAT))
        raise typer.Exit(0)

    monkeypatch.setattr(remote, "send", take)
    monkeypatch.setenv("ABLATOR_STORE", "mine")
    what = ["--profile", "laptop", "--set", "a.b=1", "--set", "c.d=x y", "--row", "n = 8, soft"]
    machine = ["--slots", "2", "--gpus", "0.5", "--keep-weights", "--quiet"]
    _ablator("run", "tiny.yaml", "-p", "laptop", *what[2:], *machine, "--cluster", "c.yaml")
    assert given[0] == [*what, *machine]
    assert given[1] == what
    _ablator("run", "tiny.yaml", "--store", "s3://bucket/s", "--cluster", "c.yaml")
    assert given[2] == given[3] == ["--store", "s3://bucket/s"]
