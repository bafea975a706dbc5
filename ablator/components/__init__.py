"""What a study varies inside a model. Each is an optional section of the study file."""

from ablator.components.settings import MoToSettings, NormSettings, TokenizerSettings
from ablator.registry import COMPONENTS

# Components run in this order: MoTo and norms act behind the tokenizer, whichever it is.
COMPONENTS.add(
    "tokenizer",
    "ablator.components.tokenizers.attach:attach_tokenizer",
    settings=TokenizerSettings,
    summary="another tokenizer: frozen, convolutional, multi-scale, with context",
)
COMPONENTS.add(
    "moto",
    "ablator.components.moto:attach_moto",
    settings=MoToSettings,
    summary="modulation across tokens, in the tokenizer and behind blocks",
)
COMPONENTS.add(
    "norm",
    "ablator.components.norm:attach_norm",
    settings=NormSettings,
    summary="layer, batch or instance normalisation of the tokenizer's output",
)
