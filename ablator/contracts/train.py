"""Settings of the training loop. They sit with the contracts because plan and training, which
are siblings and do not know each other, both read them."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ablator.contracts.settings import settings


@settings
class TrainSettings:
    """The recipe: what one trial does between its first and its last step."""

    epochs: Annotated[int, Ge(1)] = 300
    """Passes over the training set, from the warmup to the end of the cosine."""
    batch_size: Annotated[int, Ge(1)] = 1024
    """Images per optimiser step, over all workers and accumulation steps together."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Forward/backward passes per optimiser step; the step's batch size stays the same."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw (decoupled weight decay) or sgd (with momentum)."""
    lr: Annotated[float, Gt(0)] = 5e-4
    """Peak learning rate, at `lr_batch` images per step."""
    lr_batch: Annotated[int, Ge(1)] | None = 512
    """The lr is scaled by batch_size / lr_batch (linear rule); null leaves it as written."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    """Momentum of sgd."""
    nesterov: bool = True
    """sgd: Nesterov's momentum; false is the classical one, as in MoCo v3's linear probe."""
    eps: Annotated[float, Gt(0)] = 1e-8
    """Epsilon of adamw."""
    weight_decay: Annotated[float, Ge(0)] = 0.05
    """Decay of matrices; biases, norms and the backbone's own exceptions get none."""
    warmup_epochs: Annotated[float, Ge(0)] = 5.0
    """Linear warmup, in epochs (fractions allowed)."""
    warmup_lr: Annotated[float, Ge(0)] = 1e-6
    """Learning rate at the first step of the warmup."""
    min_lr: Annotated[float, Ge(0)] = 1e-5
    """Learning rate at the end of the cosine."""
    cooldown_epochs: Annotated[int, Ge(0)] = 0
    """Further epochs at `min_lr` after those of the cosine, which `epochs` counts."""
    clip_grad: Annotated[float, Gt(0)] | None = None
    """Largest global gradient norm; null does not clip."""
    label_smoothing: Annotated[float, Ge(0), Le(1)] = 0.1
    """Mass spread over the wrong classes."""
    mixup: Annotated[float, Ge(0)] = 0.8
    """Alpha of mixup's Beta distribution; 0 switches it off."""
    cutmix: Annotated[float, Ge(0)] = 1.0
    """Alpha of CutMix's Beta distribution; 0 switches it off."""
    mixup_switch: Annotated[float, Ge(0), Le(1)] = 0.5
    """Chance that a batch gets CutMix where both are on."""
    ema_decay: Annotated[float, Gt(0), Le(1)] | None = None
    """Decay of the weight average; adds the metrics `ema_*`. Null keeps no average."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast type of forward and loss; weights and optimiser stay fp32."""
    eval_every: Annotated[int, Ge(1)] = 1
    """Epochs between evaluations; the last epoch is always evaluated."""

    @property
    def all_epochs(self) -> int:
        """Passes over the training set, those at the lowest rate included."""
        return self.epochs + self.cooldown_epochs
