"""Missing or damaged weights are found before training, in seconds and with a way out."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request

import pytest

from ablator.errors import UnknownName, WeightsError
from ablator.objectives import weights
from ablator.objectives.settings import TokenPropSettings
from ablator.objectives.weights import check_features


def go_through(monkeypatch, proxy: str) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # urllib reads the proxies once per process; here and after the test it has to read them again.
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cached weights, and a proxy that refuses every connection."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    go_through(monkeypatch, "http://127.0.0.1:9")
    return tmp_path


@pytest.mark.parametrize("loss", ["perceptual", "contextual"])
def test_vgg19_without_a_network_names_where_it_looked_and_what_else_works(offline, loss) -> None:
    with pytest.raises(WeightsError) as error:
        check_features(TokenPropSettings(loss=loss, features="vgg19"))
    assert str(offline / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth") in str(error.value)
    assert "tokenprop.features: efficientnet_lite0" in str(error.value)
    assert weights.VGG19.locate() is None  # no half-written file that the next run would trust


@pytest.mark.timeout(120)  # without a timeout of ours this would hang
def test_a_silent_server_is_given_up(monkeypatch, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        go_through(monkeypatch, proxy)
        monkeypatch.setattr(weights, "FETCH_TIMEOUT", 0.2)
        with pytest.raises(WeightsError, match="timed out"):
            check_features(TokenPropSettings(loss="perceptual", features="vgg19"))
    assert socket.getdefaulttimeout() is None


def test_pixel_losses_need_no_weights(offline) -> None:
    assert check_features(TokenPropSettings(loss="l2", features="vgg19")) is None


def test_a_damaged_file_is_named(offline) -> None:
    path = offline / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="damaged") as error:
        check_features(TokenPropSettings(loss="contextual", features="vgg19"))
    assert str(path) in str(error.value)


def test_unknown_networks_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'vgg19'"):
        check_features(TokenPropSettings(loss="l2", features="vgg16"))


def test_the_hub_folder_is_torchs_own(monkeypatch, tmp_path) -> None:
    from torch.hub import get_dir

    for variable in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert str(weights.hub_folder()) == f"{get_dir()}/checkpoints"


def test_checking_packaged_weights_loads_no_torch() -> None:
    code = (
        "import sys; from ablator.objectives.settings import TokenPropSettings as S; "
        "from ablator.objectives.weights import check_features; "
        "print(check_features(S(loss='contextual', features='efficientnet_lite0'))); "
        "sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("efficientnet-lite0-57934424.pth")
