"""What a study varies inside a model. Each is an optional section of the study file."""

from ablator.components.settings import MoToSettings, NormSettings
from ablator.registry import COMPONENTS

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
