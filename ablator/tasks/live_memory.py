"""How much memory a module needs at once, counted without taking any.

Under torch's meta device a forward pass allocates nothing, but the tensors that it would make come and go as
they would. What is alive at its fullest is what an allocator must hold; the work space inside single kernels
is not in it.

Shape legend: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def live_bytes(module: nn.Module, shape_BCHW: Sequence[int]) -> int:
    """Most bytes alive at once in a forward pass of `module` on a float32 map of this shape: the map, all
    intermediates and the output; parameters left out."""
    shadow = copy.deepcopy(module).to("meta")
    counter = _LiveBytes({parameter.untyped_storage()._cdata for parameter in shadow.parameters()})
    with torch.no_grad(), counter:
        shadow(torch.empty(tuple(shape_BCHW), device="meta"))
    return counter.most


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that operations return until they are freed."""

    def __init__(self, left_out: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._left_out = left_out
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._alive = {key: held for key, held in self._alive.items() if not _gone(held[0])}
        storages = [leaf.untyped_storage() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        for storage in storages:
            if storage._cdata not in self._left_out:
                self._alive[storage._cdata] = (_weak(storage), storage.nbytes())
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return output


def _weak(storage: torch.UntypedStorage) -> StorageWeakRef:
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


def _gone(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]
