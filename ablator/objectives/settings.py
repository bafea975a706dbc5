"""Settings of the objectives: the optional section `tokenprop`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge

from ablator.contracts.settings import settings


@settings
class TokenPropSettings:
    """Reconstruction of the image from the tokenizer's output (arXiv 2212.11115, section 4). Naming any
    key switches it on."""

    loss: Literal["l1", "l2", "perceptual", "contextual"] = "l2"
    """How the reconstruction is compared with the image."""
    weight: Annotated[float, Ge(0)] = 0.001
    """λ, the weight beside the task's loss."""
    scale: Annotated[int, Ge(4)] = 64
    """Side of the reconstruction in pixels; at most the image's side, rounded up to a power of two."""
    width: Annotated[int, Ge(1)] = 1
    """The decoder's middle has 12·width channels."""
    features: str = "vgg19"
    """Pretrained network of the perceptual and contextual losses: vgg19 (as published) or
    efficientnet_lite0 (ships in a package, for machines without a network)."""
