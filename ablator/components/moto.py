"""MoTo (arXiv 2212.11115, section 3) as a module, and where it is put into a backbone.

The paper publishes neither the layout's network nor the placement. The module follows Attentive
Normalization (Wang et al., CVPR 2020), from which MoTo descends: logits of the layout from a 1×1
convolution, an optional self-sampling branch, a value convolution, and a residual weight ρ that starts at 0.

Shape legend: B batch, C channels, H W height and width, P = H·W positions, N entities, K = C/8.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from ablator.components.modulation import modulate, modulate_term_by_term, partition
from ablator.components.settings import MoToSettings
from ablator.contracts.protocols import Change, Seam, Seams
from ablator.errors import SeamError, SettingError

__all__ = ["MoTo", "MoToStem", "attach_moto", "modulate", "modulate_term_by_term", "partition"]

EPS = 1e-3
"""ε beside σ_i, which the paper leaves open. Normalisations commonly add 1e-5 to a variance, which bounds
1/σ by 316; 1e-3 beside σ bounds it by 500, also for an entity with a single position."""
MAX_STEM_WIDTH = 112


@torch.library.custom_op("ablator::draw_positions", mutates_args=(), tags=torch.Tag.nondeterministic_seeded)
def _draw_positions(positions: int, batch: int, entities: int) -> Tensor:
    """Positions (B,N) on the CPU. The draw leaves the global stream where it was: drop-path and dropout
    behind it then draw the same numbers as in an arm without this branch. An operator of its own, because
    torch.compile cannot look into a change of random state and would cut the model in pieces there."""
    with torch.random.fork_rng(devices=[]):
        return torch.randint(positions, (batch, entities), device="cpu")


@_draw_positions.register_fake
def _positions_like(positions: int, batch: int, entities: int) -> Tensor:
    return torch.empty((batch, entities), dtype=torch.int64, device="cpu")


class SelfSampling(nn.Module):
    """Attentive Normalization's second source of layout logits: F = q · k[positions]ᵀ, with as many
    positions as entities, drawn uniformly per image, weighted by α clipped to [0, 1]."""

    def __init__(self, channels: int, entities: int) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.alpha = nn.Parameter(torch.full((entities,), 0.1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B,N,H,W) to add to the layout's."""
        batch, _, height, width = x_BCHW.shape
        query_BKP = self.query(x_BCHW).flatten(2)
        key_BKP = self.key(x_BCHW).flatten(2)
        positions_BN = _draw_positions(height * width, batch, len(self.alpha))
        index_BKN = positions_BN.to(key_BKP.device)[:, None].expand(-1, key_BKP.shape[1], -1)
        logits_BNP: Tensor = key_BKP.gather(2, index_BKN).transpose(1, 2) @ query_BKP
        logits_BNP = self.alpha.clamp(0, 1)[:, None] * logits_BNP
        return logits_BNP.reshape(batch, -1, height, width)


class MoTo(nn.Module):
    """X + ρ · MoTo(V), with V a 1×1 convolution of X (or X itself). With ρ = 0, as at the start, the output
    is X. Adds `penalty()` to the loss where `orthogonality` is above 0."""

    def __init__(self, channels: int, settings: MoToSettings) -> None:
        super().__init__()
        self.settings = settings
        self.filters = nn.Conv2d(channels, settings.n, 1, bias=False)
        self.sampling = SelfSampling(channels, settings.n) if settings.self_sampling else None
        # No bias: a constant per channel is what the normalisation takes out again.
        self.value = nn.Conv2d(channels, channels, 1, bias=False) if settings.value else None
        self.scale = nn.Parameter(torch.ones(settings.n, channels))
        self.shift = nn.Parameter(torch.zeros(settings.n, channels))
        self.rho = nn.Parameter(torch.zeros(()))

    def layout(self, x_BCHW: Tensor) -> Tensor:
        """The share of every entity at every position, (B,N,H,W); sums to 1 over N."""
        logits_BNHW = self.filters(x_BCHW)
        if self.sampling is not None and self.training:
            logits_BNHW = logits_BNHW + self.sampling(x_BCHW)
        return partition(logits_BNHW, tau=self.settings.tau, kind=self.settings.partition)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The modulated map, same shape and dtype."""
        value_BCHW = x_BCHW if self.value is None else self.value(x_BCHW)
        modulated_BCHW = modulate(
            value_BCHW,
            self.layout(x_BCHW),
            self.scale,
            self.shift,
            statistics=self.settings.statistics,
            eps=EPS,
        )
        return torch.addcmul(x_BCHW, modulated_BCHW.to(x_BCHW.dtype), self.rho.to(x_BCHW.dtype))

    def no_weight_decay(self) -> set[str]:
        """Scale and shift, as of any normalisation, though they are matrices here."""
        return {"scale", "shift"}

    def penalty(self) -> Tensor:
        """orthogonality · ‖WWᵀ − I‖²_F on the layout filters W (N,C); 0 where switched off."""
        filters_NC = self.filters.weight.flatten(1)
        if self.settings.orthogonality == 0:
            return filters_NC.new_zeros(())
        identity_NN = torch.eye(len(filters_NC), device=filters_NC.device, dtype=filters_NC.dtype)
        return self.settings.orthogonality * (filters_NC @ filters_NC.T - identity_NN).square().sum()


class MoToStem(nn.Module):
    """A projection in two strided convolutions with MoTo between them, on a narrow map.

    For DeiT-S this is the arrangement whose added parameters fit the paper's Table 2: 4×4/4 to 112
    channels, MoTo, 4×4/4 to 384. Other backbones: the stride is split into its two factors nearest to each
    other, the larger one first (4 = 2·2, 8 = 4·2, 32 = 8·4); the width is 7/24 of the embedding's in
    multiples of 8, at most 112, because the paper's added parameters do not grow with the backbone. Where
    the projection's kernel overlaps its stride, kernels are 2·stride − 1 (PVTv2's 7×7/4: two 3×3/2, with
    the same receptive field).
    """

    def __init__(self, projection: nn.Conv2d, strides: tuple[int, int], settings: MoToSettings) -> None:
        super().__init__()
        channels = projection.out_channels
        self.width = max(8, min(MAX_STEM_WIDTH, 8 * round(channels * 7 / 24 / 8)))
        overlapping = projection.kernel_size[0] > projection.stride[0]

        def convolution(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
            kernel, padding = (2 * stride - 1, stride - 1) if overlapping else (stride, 0)
            return nn.Conv2d(inputs, outputs, kernel, stride, padding)

        self.reduce = convolution(projection.in_channels, self.width, strides[0])
        self.moto = MoTo(self.width, settings)
        self.project = convolution(self.width, channels, strides[1])

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The tokenizer's map."""
        projected_BCHW: Tensor = self.project(self.moto(self.reduce(image_BCHW)))
        return projected_BCHW


def split_stride(stride: int) -> tuple[int, int] | None:
    """Two factors above 1 that are nearest to each other, the larger first; None for primes and 1."""
    for first in range(2, stride):
        if stride % first == 0 and first * first >= stride:
            return first, stride // first
    return None


def select_blocks(seams: Seams, blocks: str) -> list[Seam]:
    """The block seams in the Python slice `blocks`; SettingError where it is no slice, selects nothing, or
    reaches past the model's depth."""
    seen = list(seams.blocks())
    depth = len(seen)
    match = re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*(?::\s*(-?\d+)?\s*)?", blocks)
    if match is None:
        raise SettingError(f'moto.blocks is a Python slice such as "0:4" or "-2:", not {blocks!r}')
    start, stop, step = (None if part is None else int(part) for part in match.groups())
    rule = f"moto.blocks {blocks!r} on a {seams.family} model with {depth} blocks"
    if any(bound is not None and not -depth <= bound <= depth for bound in (start, stop)):
        raise SettingError(f"{rule}: bounds lie between {-depth} and {depth}")
    if step == 0:
        raise SettingError(f"{rule}: the step cannot be 0")
    chosen = seen[slice(start, stop, step)]
    if not chosen:
        raise SettingError(f'{rule} selects none; "0:{depth}" selects all')
    return chosen


def attach_moto(seams: Seams, settings: MoToSettings) -> Change:
    """Put MoTo behind the embeddings (post), into the projection (stem), and behind blocks.

    Raises SettingError for settings that change nothing or select no block, and SeamError where the
    backbone has no place for the placement.
    """
    if settings.placement == "none" and settings.blocks is None:
        raise SettingError('moto.placement none and moto.blocks null change nothing; give one, such as "0:4"')
    if settings.stages == "all" and settings.placement != "post":
        raise SettingError(
            f"moto.stages all needs moto.placement post, not {settings.placement}: there is one stem"
        )
    notes: tuple[str, ...] = ()
    places: list[Seam] = [] if settings.blocks is None else select_blocks(seams, settings.blocks)
    names: list[str] = []
    if settings.placement == "post":
        places = [*_embeddings(seams, settings), *places]
    elif settings.placement == "stem":
        names, notes = _attach_stem(seams, settings)
    for seam in places:
        seam.append(MoTo(seam.channels, settings))
        if not seam.reaches_head:
            notes = (*notes, f"MoTo behind {seam.name} does not reach the class token's head")
    return Change(places=(*names, *(seam.name for seam in places)), notes=notes)


def _embeddings(seams: Seams, settings: MoToSettings) -> list[Seam]:
    embeddings = list(seams.embeddings())
    if settings.stages == "first":
        return embeddings[:1]
    if len(embeddings) == 1:
        raise SeamError(
            f"moto.stages all: family {seams.family!r} has one embedding, {embeddings[0].name}; "
            "use moto.stages first"
        )
    return embeddings


def _attach_stem(seams: Seams, settings: MoToSettings) -> tuple[list[str], tuple[str, ...]]:
    seam = seams.tokenizer()
    strides = split_stride(seam.stride)
    if strides is None:
        raise SeamError(
            f"moto.placement stem splits the tokenizer's stride into two factors, and {seam.stride} "
            f"({seam.name} of family {seams.family!r}) has none; use moto.placement post"
        )
    projection = seam.projection
    if not isinstance(projection, nn.Conv2d):
        raise SeamError(
            f"moto.placement stem takes the place of a convolution, and {seam.name} of family "
            f"{seams.family!r} is a {type(projection).__name__}; use moto.placement post"
        )
    stem = MoToStem(projection, strides, settings)
    seam.replace(stem)
    note = f"MoTo stem: strides {strides[0]}·{strides[1]}, width {stem.width}"
    return [seam.name], (note,)
