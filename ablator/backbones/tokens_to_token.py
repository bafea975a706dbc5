"""The tokens-to-token module of T2T-ViT (Yuan et al., ICCV 2021, arXiv 2101.11986), from image to tokens.

Parameters have the names of the authors' checkpoints (yitu-opensource/T2T-ViT). The random features of the
performers are parameters without gradient, as there.

Shape legend: B batch, C channels of a map, H W height and width, N tokens, I channels of a token, D channels
of an embedding, M random features.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-8
"""Beside the normaliser of the kernel attention, as in the authors' code."""


class Performer(nn.Module):
    """A Performer layer (Choromanski et al., ICLR 2021) that also changes the width, I to D channels: kernel
    attention over D/2 positive random features with the values as the skip, then an MLP of width D
    (arXiv 2101.11986, section 3.1)."""

    def __init__(self, in_features: int, dim: int, drop: float) -> None:
        super().__init__()
        self.dim = dim
        self.norm1 = nn.LayerNorm(in_features)
        self.kqv = nn.Linear(in_features, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dp = nn.Dropout(drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.Dropout(drop))
        features = dim // 2
        directions_MD = nn.init.orthogonal_(torch.empty(features, dim)) * math.sqrt(features)
        self.w = nn.Parameter(directions_MD, requires_grad=False)

    def forward(self, x_BNI: Tensor) -> Tensor:
        """The tokens (B,N,D) that saw each other."""
        key_BND, query_BND, value_BND = self.kqv(self.norm1(x_BNI)).chunk(3, dim=-1)
        x_BND = value_BND + self.dp(self.proj(self._attend(key_BND, query_BND, value_BND)))
        return cast(Tensor, x_BND + self.mlp(self.norm2(x_BND)))

    def _attend(self, key_BND: Tensor, query_BND: Tensor, value_BND: Tensor) -> Tensor:
        # Exponentials up to exp(M/2), summed over all tokens: the weights' precision, also under autocast.
        with _without_autocast(key_BND.device.type):
            key_BNM, query_BNM = self._features(key_BND), self._features(query_BND)
            summary_BMD = key_BNM.transpose(1, 2) @ value_BND.to(self.w.dtype)
            normaliser_BN1 = query_BNM @ key_BNM.sum(dim=1).unsqueeze(-1)
            return (query_BNM @ summary_BMD / (normaliser_BN1 + EPS)).to(value_BND.dtype)

    def _features(self, x_BND: Tensor) -> Tensor:
        """exp(w·x − |x|²/2) / √M. With |w|² = M = D/2 their dot products estimate a Gaussian kernel,
        exp(−|q − k|²/4); it is the authors' scale, while Performer's own |w|² = D estimates softmax's."""
        x_BND = x_BND.to(self.w.dtype)
        half_norm_BN1 = x_BND.square().sum(dim=-1, keepdim=True) / 2
        return torch.exp(x_BND @ self.w.T - half_norm_BN1) / math.sqrt(len(self.w))


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


class TokensToToken(nn.Module):
    """The tokenizer: three soft splits (overlapping patches, flattened), a performer between each two, and a
    projection to D channels (arXiv 2101.11986, section 3.1).

    A split with kernel k and stride s is padded by ⌈(k − s)/2⌉, with which it divides a side that s divides
    by exactly s; for the published 7/4, 3/2, 3/2 that is the published 2, 1, 1.
    """

    def __init__(
        self,
        in_chans: int,
        embed_dim: int,
        *,
        token_dim: int,
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        drop: float,
    ) -> None:
        super().__init__()
        self.kernel_sizes = tuple(kernel_sizes)
        self.strides = tuple(strides)
        _check_splits(self.kernel_sizes, self.strides)
        first, second, third = (kernel**2 for kernel in self.kernel_sizes)
        self.attention1 = Performer(in_chans * first, token_dim, drop)
        self.attention2 = Performer(token_dim * second, token_dim, drop)
        self.project = nn.Linear(token_dim * third, embed_dim)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The map of tokens, (B, D, H/stride, W/stride) with the product of the strides."""
        x_BCHW = _map_of(self.attention1(self._split(image_BCHW, 0)), image_BCHW, self.strides[0])
        x_BCHW = _map_of(self.attention2(self._split(x_BCHW, 1)), x_BCHW, self.strides[1])
        # A split that only a linear layer sees is a convolution: no copy of overlapping patches, and a map as
        # every other patch projection gives it, whose gradient is summed in one order whatever follows.
        kernel, stride = self.kernel_sizes[2], self.strides[2]
        weight_DCKK = self.project.weight.view(len(self.project.weight), -1, kernel, kernel)
        padding = _padding(kernel, stride)
        return functional.conv2d(x_BCHW, weight_DCKK, self.project.bias, stride=stride, padding=padding)

    def _split(self, x_BCHW: Tensor, index: int) -> Tensor:
        kernel, stride = self.kernel_sizes[index], self.strides[index]
        padding = _padding(kernel, stride)
        return functional.unfold(x_BCHW, kernel, padding=padding, stride=stride).transpose(1, 2)


def _map_of(x_BND: Tensor, before_BCHW: Tensor, stride: int) -> Tensor:
    height, width = before_BCHW.shape[-2] // stride, before_BCHW.shape[-1] // stride
    return x_BND.transpose(1, 2).reshape(len(x_BND), -1, height, width)


def _padding(kernel: int, stride: int) -> int:
    return -(-(kernel - stride) // 2)


def _check_splits(kernel_sizes: Sequence[int], strides: Sequence[int]) -> None:
    if len(kernel_sizes) != 3 or len(strides) != 3:
        raise ValueError(
            f"kernel_sizes and strides have three numbers each, one per soft split, not {list(kernel_sizes)} "
            f"and {list(strides)}"
        )
    for kernel, stride in zip(kernel_sizes, strides, strict=True):
        if not 1 <= stride <= kernel:
            raise ValueError(f"a soft split's stride lies between 1 and its kernel, {kernel}, not {stride}")
        if stride == 1 and kernel % 2 == 0:
            raise ValueError(f"a soft split with stride 1 needs an odd kernel, not {kernel}")
