"""Settings of the components: the optional sections `tokenizer`, `moto` and `norm`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt

from ablator.contracts.settings import settings


@settings
class TokenizerSettings:
    """Another tokenizer in place of the patch projection, or right behind it (Tables 1 and 11)."""

    kind: Literal[
        "frozen",
        "conv_stem",
        "intra",
        "intra_local",
        "intra_local_inter",
        "cross_scale",
        "token_learner",
    ] = "conv_stem"
    """frozen: random patches that are never trained (MoCo v3); conv_stem: stacked 3×3/2 convolutions
    (DeiT_C); intra, intra_local, intra_local_inter: the designs of Table 1, inferred from their sizes;
    cross_scale: kernels of four sizes (CrossFormer); token_learner: context in a few learned tokens."""
    context_stride: Annotated[int, Ge(1)] = 16
    """intra_local_inter: image pixels per key of its attention along one axis; maps whose positions are
    farther apart are not reduced."""
    tokens: Annotated[int, Ge(1)] = 8
    """token_learner: number of learned tokens."""
    learner: Literal["convolutional", "mlp"] = "mlp"
    """token_learner: convolutional (the paper's: 3×3 convolutions, sigmoid, sums) or mlp (version 1.1:
    each position by itself, softmax), which is said to suit early layers better."""


@settings
class MoToSettings:
    """Modulation across tokens (arXiv 2212.11115, section 3). Naming any key switches it on."""

    placement: Literal["post", "stem", "none"] = "post"
    """post: on the map after the patch projection, a fresh model equals its baseline; stem: a narrow
    convolutional stem modulated before the projection, sized like the paper's; none: only in blocks."""
    stages: Literal["first", "all"] = "first"
    """Which stages' embeddings get it (post, multi-stage backbones)."""
    blocks: str | None = None
    """Transformer blocks that get it on their output, as a Python slice such as "0:4"."""
    n: Annotated[int, Ge(1)] = 8
    """Number of semantic entities."""
    tau: Annotated[float, Gt(0)] = 0.1
    """Temperature: the layout is softmax(tau * Z)."""
    partition: Literal["soft", "hard"] = "soft"
    """soft: softmax layout; hard: one-hot of the argmax, gradients straight through."""
    statistics: Literal["weighted", "literal", "counted", "averaged"] = "weighted"
    """Reading of the paper's mean and deviation of X ⊙ L_i: weighted (ΣLX/ΣL), literal (over all HW
    positions of the masked map), counted (Σ(XL)/cnt with deviations of the masked map), averaged
    (mean(XL)/cnt)."""
    value: bool = True
    """Modulate a 1×1 convolution of the map (as Attentive Normalization does) instead of the map itself."""
    self_sampling: bool = False
    """Add the self-sampling branch to the layout logits in training (Attentive Normalization)."""
    orthogonality: Annotated[float, Ge(0)] = 0.0
    """Weight of the penalty ‖WWᵀ − I‖² on the layout filters; 0 switches it off."""


@settings
class NormSettings:
    """A plain normalisation of the tokenizer's output (Table 6)."""

    kind: Literal["layer", "batch", "instance"] = "layer"
    """layer (over channels, per token), batch, or instance (over positions, affine)."""
