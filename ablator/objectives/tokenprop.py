"""TokenProp: the tokenizer is also trained so that the image can be rebuilt from its tokens.

Source: arXiv 2212.11115, section 4. The paper does not publish the decoder; both axes of its Table 9
(channels ×1, ×2, ×4 and the side of the output) are those of InfoPro's decoder (Wang et al., ICLR 2021),
which is what stands here.

Shape legend: B batch, C channels, H W the map of tokens, S side of the reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ablator.contracts.protocols import Seams
from ablator.errors import SettingError
from ablator.objectives import losses
from ablator.objectives.features import feature_network
from ablator.objectives.settings import TokenPropSettings
from ablator.objectives.weights import FeatureLoss, FeatureNetwork, feature_network_of

MIDDLE_CHANNELS = 12
"""Channels of the decoder's middle at width 1."""


def build_tokenprop(seams: Seams, settings: TokenPropSettings) -> TokenProp:
    """The objective for a backbone. Its decoder is drawn from torch's current random state; pretrained
    features are looked up when they are first used, so building works on the meta device without them.

    Raises SettingError where the scale does not fit the image or the features, SeamError where the
    backbone has no tokenizer, UnknownName for an unknown feature network.
    """
    network = feature_network_of(settings)
    _check_scale(settings, network, min(seams.image_size))
    return TokenProp(seams.tokenizer().channels, settings, network)


def largest_scale(image_side: int) -> int:
    """The largest reconstruction of an image: its side, rounded up to a power of two (Table 9 has 256 at
    images of 224)."""
    return 1 << (image_side - 1).bit_length()


def _check_scale(settings: TokenPropSettings, network: FeatureNetwork | None, image_side: int) -> None:
    largest = largest_scale(image_side)
    smallest, why = 4, ""
    if network is not None:
        kind = _feature_loss(settings)
        layer, stride = max(network.layers[kind].items(), key=lambda item: item[1])
        # One position has nothing to be compared with: there the contextual loss is constant.
        smallest = stride if kind == "perceptual" else 2 * stride
        why = f" ({kind} loss, layer {layer} of {network.name})"
    if largest < smallest:
        raise SettingError(
            f"tokenprop.loss {settings.loss!r} needs a scale of at least {smallest}{why}, and images of side "
            f"{image_side} allow at most {largest}; use tokenprop.loss: l2 or l1, or larger images"
        )
    if not smallest <= settings.scale <= largest:
        raise SettingError(
            f"tokenprop.scale {settings.scale} does not fit: for images of side {image_side} the "
            f"reconstruction's side is from {smallest}{why} to {largest}"
        )


def _feature_loss(settings: TokenPropSettings) -> FeatureLoss:
    assert settings.loss in ("perceptual", "contextual")
    return settings.loss


class Decoder(nn.Sequential):
    """From the map of tokens (B,C,H,W) to an image (B,3,S,S) in [0, 1]: bilinear resize, 3×3 convolution to
    12·width, batch norm, ReLU, 3×3 convolution to 3, sigmoid."""

    def __init__(self, channels: int, width: int, scale: int) -> None:
        middle = MIDDLE_CHANNELS * width
        super().__init__(
            nn.Upsample(size=(scale, scale), mode="bilinear", align_corners=False),
            nn.Conv2d(channels, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, 3, 3, padding=1),
            nn.Sigmoid(),
        )


class TokenProp(nn.Module):
    """λ · L_rec(G(tokens), image). Only the decoder G is a submodule."""

    def __init__(self, channels: int, settings: TokenPropSettings, network: FeatureNetwork | None) -> None:
        super().__init__()
        self.settings = settings
        self.decoder = Decoder(channels, settings.width, settings.scale)
        self.layers = () if network is None else tuple(network.layers[_feature_loss(settings)])
        self.notes: tuple[str, ...] = _notes(settings, network)

    def forward(self, taps: Mapping[str, Tensor], images_BCHW: Tensor) -> dict[str, Tensor]:
        """`{"tokenprop": scalar}`, weight included, from taps["tokens"] (B,C,H,W) and images in [0, 1]."""
        scale = self.settings.scale
        made_B3SS = self.decoder(taps["tokens"]).float()
        # Random erasing writes pixels outside the range that a sigmoid can reach.
        target_B3SS = nn.functional.interpolate(images_BCHW.float(), (scale, scale), mode="area").clamp(0, 1)
        return {"tokenprop": self.settings.weight * self.distance(made_B3SS, target_B3SS)}

    def distance(self, made_B3SS: Tensor, target_B3SS: Tensor) -> Tensor:
        """The chosen loss between images in [0, 1], without λ; a scalar in fp32."""
        kind = self.settings.loss
        if kind == "l1":
            return losses.l1(made_B3SS, target_B3SS)
        if kind == "l2":
            return losses.l2(made_B3SS, target_B3SS)
        network = feature_network(self.settings.features, made_B3SS.device)
        compare = losses.perceptual if kind == "perceptual" else losses.contextual
        return compare(network(made_B3SS, self.layers), network(target_B3SS, self.layers))


def _notes(settings: TokenPropSettings, network: FeatureNetwork | None) -> tuple[str, ...]:
    if network is None:
        return ()
    notes = []
    if not network.published:
        notes.append(
            f"tokenprop: the {settings.loss} loss is measured in {network.title} (ImageNet weights, "
            f"{network.licence}), which stands in for VGG19"
        )
    if settings.loss == "contextual":
        for layer, stride in network.layers["contextual"].items():
            side = -(-settings.scale // stride)
            step = losses.thinning(side, side)
            if step > 1:
                notes.append(f"tokenprop: the contextual loss reads one row and column in {step} of {layer}")
    return tuple(notes)
