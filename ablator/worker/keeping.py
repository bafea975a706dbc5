"""Keeping what was trained in a store that takes nothing for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ablator.errors import StoreError

_log = logging.getLogger("ablator.worker")
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between two tries; a minute in all."""


class NotKeptError(StoreError):
    """The store took nothing, in all that time."""


def patiently(keep: Callable[[], object]) -> None:
    """Call `keep` until it raises no StoreError, for a minute. Raises NotKeptError with the last text."""
    for wait in (*_WAITS_S, None):
        try:
            keep()
            return
        except StoreError as error:
            if wait is None:
                raise NotKeptError(str(error)) from error
            _log.warning("%s; tried again in %g s", error, wait)
            time.sleep(wait)
