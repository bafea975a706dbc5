"""Pixel-wise self-attention: what MoTo is timed against (arXiv 2212.11115, Table 3).

The paper names the operator and publishes no code of it. This is the plain form of its name: one head over
all positions of the map, softmax(QKᵀ/√C)V with the P×P matrix written out (no fused kernel, which would never
hold it), and 1×1 convolutions for Q, K, V. No study attaches it to a backbone.

Shape legend: B batch, C channels, H W height and width, P = H·W positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelSelfAttention(nn.Module):
    """X + softmax(QKᵀ/√C)V between all positions. Time and memory grow with P²: at its fullest a pass in
    float32 holds two matrices of 4·P² bytes for every image, before and after the softmax."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The attended map, same shape."""
        query_BPC = self.query(x_BCHW).flatten(2).transpose(1, 2) * x_BCHW.shape[1] ** -0.5
        weights_BPP = torch.softmax(query_BPC @ self.key(x_BCHW).flatten(2), dim=-1)
        attended_BPC = weights_BPP @ self.value(x_BCHW).flatten(2).transpose(1, 2)
        attended_BCHW: Tensor = attended_BPC.transpose(1, 2).reshape(x_BCHW.shape)
        return x_BCHW + attended_BCHW
