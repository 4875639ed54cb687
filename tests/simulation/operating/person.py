"""Somebody who reads the status, and does what only people may decide."""

import re
from typing import TYPE_CHECKING, Final

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from tests.simulation.engine.disk import writes
from tests.simulation.kubernetes.store import Key

if TYPE_CHECKING:
    from tests.simulation.world import World

OLDER_DATA: Final = re.compile(r"Take from (.+?) what you need, then delete the pod")
HISTORIES: Final = re.compile(r"is on (.+?), in histories that cannot be compared\. Delete the pod")


def heeds(world: "World", ref: ClusterRef) -> bool:
    """Deletes pods with data that is too old to be served, or all but one of those of which nobody knows who has the
    newest, once told to. Whether it came to that.
    """
    message = world.cluster(ref).get("status", {}).get("message", "")
    asked = OLDER_DATA.search(message) or HISTORIES.search(message)
    if asked is None:
        return False
    kept = asked[1].split(", ")[0] if HISTORIES.search(message) else ""
    for box in world.boxes(ref.name):
        if box.key.name != kept and re.search(rf"\b{box.key.name}\b", asked[1]):
            claim = Key("PersistentVolumeClaim", ref.namespace, f"{names.DATA_VOLUME}-{box.key.name}")
            assert world.store.look(claim) is None, "no schedule destroys volumes: one has the newer data"
            world.note(f"somebody deletes {box.key.name}, as told")
            if box.node is not None:
                world.watch.thrown_away |= writes(box.node.tokens)
            world.store.delete(box.key)
    return True
