"""The bound on H(A|B): how well the image A can be rebuilt from frozen tokens B.

With Gaussian noise of unit variance around a decoder G, H(A|B) ≤ E‖A − G(B)‖²/2 + constant, so that a
smaller held-out error is a tighter bound from above; the paper (arXiv 2212.11115, section 4) argues by this
inequality. The decoder is TokenProp's at width 1, whatever the trial's own was, so that all trials are
compared by the same one.

Shape legend: B batch, C channels, H W the map of tokens, S side of the reconstruction.
"""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor, nn

from ablator.analysis.trained import Seen, Trained
from ablator.objectives.tokenprop import Decoder, largest_scale

_LARGEST = 64
_LR = 2e-3


def scale_of(image_size: int) -> int:
    """Side of the reconstructions: 64 as in the paper's main cell, less where images are smaller."""
    return min(_LARGEST, largest_scale(image_size))


def heldout_error(trained: Trained, *, steps: int, scale: int, seed: int, device: torch.device) -> float:
    """Mean squared error per value (images in [0, 1]) on the validation set, after `steps` steps of Adam on
    plain training images. The decoder's weights follow from `seed` alone, so that arms begin alike."""
    decoder: nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    done = 0
    for epoch in count():
        for seen in trained.training(epoch):
            if decoder is None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    decoder = Decoder(seen.tokens.shape[1], 1, scale).to(device)
                optimizer = torch.optim.Adam(decoder.parameters(), lr=_LR)
            assert optimizer is not None
            with torch.enable_grad():
                loss = _error(decoder, seen, scale).mean()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
            optimizer.step()
            done += 1
            if done == steps:
                return _heldout(decoder, trained, scale)
    raise AssertionError("epochs do not end")


@torch.no_grad()
def _heldout(decoder: nn.Module, trained: Trained, scale: int) -> float:
    decoder.eval()
    total, images = 0.0, 0
    for seen in trained.validation():
        total += float(_error(decoder, seen, scale).double().sum())
        images += len(seen.labels)
    return total / images


def _error(decoder: nn.Module, seen: Seen, scale: int) -> Tensor:
    """(B,): mean squared error of each image."""
    target_B3SS = nn.functional.interpolate(seen.images, (scale, scale), mode="area")
    made_B3SS: Tensor = decoder(seen.tokens)
    return (made_B3SS - target_B3SS).square().mean((1, 2, 3))
