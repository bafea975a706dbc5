"""Which actors of the cluster are dead, as Ray's own table has it; asking does not touch the actor."""

from __future__ import annotations

from ray import ActorID
from ray._private.state import state
from ray.core.generated.gcs_pb2 import ActorTableData


def is_dead(actor: str) -> bool:
    """Whether the actor with that id (hexadecimal) is dead for good. One that Ray does not know is not."""
    known = state._connect_and_get_accessor().get_actor_info(ActorID.from_hex(actor))
    return known is not None and ActorTableData.FromString(known).state == ActorTableData.DEAD
