"""A few learned tokens as context of the patches (TokenLearner, Ryoo et al., arXiv 2106.11297).

TokenLearner turns a map into S tokens, and a backbone's seam wants its grid back. The paper has a way back,
the TokenFuser: every position takes what it wants from the S tokens, and the map is added. That is what
stands here behind the backbone's own patch projection, learner and fuser without the layers that the paper
has between them, so that S tokens of global context reach every position. As in the published code
(google-research/scenic) the fuser's mixing layer starts at zero: a fresh model equals its baseline.

Shape legend: B batch, C channels, H W height and width of a map, N = H·W, S learned tokens.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from ablator.components.settings import TokenizerSettings
from ablator.contracts.protocols import Change, Seams
from ablator.errors import SettingError

HIDDEN = 64
"""Width of the small MLPs."""


def _mlp(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, outputs))


class ConvolutionalLearner(nn.Module):
    """The paper's module: four 3×3 convolutions without bias (GELU between them) make S maps, a sigmoid
    weights from them, and each token is the sum of the map under its weights."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index in range(3):
            layers[f"conv{index}"] = nn.Conv2d(tokens if index else channels, tokens, 3, 1, 1, bias=False)
            layers[f"act{index}"] = nn.GELU()
        layers["conv3"] = nn.Conv2d(tokens, tokens, 3, 1, 1, bias=False)
        self.select = nn.Sequential(layers)

    def weights(self, x_BCHW: Tensor) -> Tensor:
        """Weights (B,S,N) in (0, 1); those of a token need not sum to 1."""
        normed_BCHW = self.norm(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        weights_BSHW: Tensor = self.select(normed_BCHW).sigmoid()
        return weights_BSHW.flatten(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The learned tokens (B,S,C)."""
        return self.weights(x_BCHW) @ x_BCHW.flatten(2).transpose(1, 2)


class MLPLearner(nn.Module):
    """Version 1.1 of the published code: an MLP of each position by itself, and a softmax over positions."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.select = _mlp(channels, tokens)

    def weights(self, x_BCHW: Tensor) -> Tensor:
        """Weights (B,S,N); those of a token sum to 1."""
        logits_BNS: Tensor = self.select(self.norm(x_BCHW.flatten(2).transpose(1, 2)))
        return logits_BNS.transpose(1, 2).softmax(dim=-1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The learned tokens (B,S,C)."""
        return self.weights(x_BCHW) @ x_BCHW.flatten(2).transpose(1, 2)


class TokenFuser(nn.Module):
    """From S tokens back to a map: a linear layer mixes the tokens, and every position weighs them by a
    sigmoid of its own features."""

    def __init__(self, channels: int, tokens: int) -> None:
        super().__init__()
        self.norm_before = nn.LayerNorm(channels)
        self.mix = nn.Linear(tokens, tokens)
        self.norm_after = nn.LayerNorm(channels)
        self.norm_map = nn.LayerNorm(channels)
        self.ask = _mlp(channels, tokens)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, tokens_BSC: Tensor, x_BCHW: Tensor) -> Tensor:
        """What is added to the map, in its shape."""
        mixed_BSC = self.mix(self.norm_before(tokens_BSC).transpose(1, 2)).transpose(1, 2)
        wanted_BNS = self.ask(self.norm_map(x_BCHW.flatten(2).transpose(1, 2))).sigmoid()
        out_BNC: Tensor = wanted_BNS @ self.norm_after(mixed_BSC)
        return out_BNC.transpose(1, 2).reshape(x_BCHW.shape)


class TokenContext(nn.Module):
    """x + fuser(learner(x), x)."""

    def __init__(self, channels: int, settings: TokenizerSettings) -> None:
        super().__init__()
        learners = {"convolutional": ConvolutionalLearner, "mlp": MLPLearner}
        self.learner: nn.Module = learners[settings.learner](channels, settings.tokens)
        self.fuser = TokenFuser(channels, settings.tokens)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The map with its context, same shape."""
        fused_BCHW: Tensor = self.fuser(self.learner(x_BCHW), x_BCHW)
        return x_BCHW + fused_BCHW


def attach_token_learner(seams: Seams, settings: TokenizerSettings) -> Change:
    """Put learner and fuser behind the patch projection. Fits every seam; raises SettingError where there
    are not fewer tokens to learn than the map has."""
    seam = seams.tokenizer()
    height, width = (-(-side // seam.stride) for side in seams.image_size)
    if settings.tokens >= height * width:
        raise SettingError(
            f"tokenizer.tokens {settings.tokens} must be fewer than the {height * width} tokens of the "
            f"{height}×{width} map at {seam.name} (family {seams.family!r})"
        )
    seam.append(TokenContext(seam.channels, settings))
    return Change(places=(seam.name,))
