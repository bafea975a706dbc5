"""From `tokenizer.kind` to the function that changes a backbone. A new kind is a file, its line here and its
name in `TokenizerSettings.kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ablator.components.settings import TokenizerSettings
from ablator.components.tokenizers.conv_stem import attach_conv_stem
from ablator.components.tokenizers.cross_scale import attach_cross_scale
from ablator.components.tokenizers.frozen import attach_frozen
from ablator.components.tokenizers.intra import attach_intra
from ablator.components.tokenizers.intra_local import attach_intra_local
from ablator.components.tokenizers.intra_local_inter import attach_intra_local_inter
from ablator.components.tokenizers.token_learner import attach_token_learner
from ablator.contracts.protocols import Change, Seams

KINDS: Mapping[str, Callable[[Seams, TokenizerSettings], Change]] = {
    "frozen": attach_frozen,
    "conv_stem": attach_conv_stem,
    "intra": attach_intra,
    "intra_local": attach_intra_local,
    "intra_local_inter": attach_intra_local_inter,
    "cross_scale": attach_cross_scale,
    "token_learner": attach_token_learner,
}


def attach_tokenizer(seams: Seams, settings: TokenizerSettings) -> Change:
    """Give the backbone another tokenizer. Raises SeamError or SettingError where the kind does not fit."""
    return KINDS[settings.kind](seams, settings)
