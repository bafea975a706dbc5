"""Gives back what dead slots had reserved.

Ray keeps a placement group until its creator and the whole job are gone. The creator of a slot's group is
Ray Train's controller, which dies with the slot's actor: the group would then hold the slot's processors or
GPU until the run ends, and the slot's next group would wait for them for ever. Ray Train's own guard does
not know of a group whose workers are still starting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import ActorID, PlacementGroupID
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group

from ablator.scheduling.actors import is_dead

_EVERY_S = 2.0

_logger = logging.getLogger(__name__)


@contextmanager
def given_back() -> Iterator[None]:
    """For the body's time, remove placement groups of this job soon after their creator died."""
    job = ray.get_runtime_context().get_job_id()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY_S):
            try:
                give_back(job)
            except Exception as error:  # noqa: BLE001 - Ray is away for a moment, or ends
                _logger.debug("cannot look for reservations of dead slots: %s", error)

    watcher = threading.Thread(target=watch, name="reservations", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def give_back(job: str) -> list[str]:
    """Remove the placement groups of the job (hexadecimal id) whose creator is dead. Returns their ids."""
    removed = []
    # Ray's public tables do not say who created a group.
    accessor = state._connect_and_get_accessor()
    for row in accessor.get_placement_group_table():
        group = PlacementGroupTableData.FromString(row)
        there = group.state != PlacementGroupTableData.REMOVED
        if there and group.creator_job_id.hex() == job and _creator_is_dead(group):
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            removed.append(group.placement_group_id.hex())
    return removed


def _creator_is_dead(group: Any) -> bool:
    creator = ActorID(group.creator_actor_id)
    # A group that the driver itself made, as Tune does, has no creator and is marked dead like the others.
    if creator.is_nil():
        return False
    if group.creator_actor_dead:
        return True
    # A controller that counts as dead may live on for seconds; a group that it makes then is not marked.
    return is_dead(creator.hex())
