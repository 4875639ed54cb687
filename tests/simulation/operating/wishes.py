"""Rule S9: a pod is replaced because somebody has asked for another, not because another operator is there."""

from typing import TYPE_CHECKING, Any, Final

from cachecluster.api import names
from tests.simulation.kubernetes.store import Key, Object

if TYPE_CHECKING:
    from tests.simulation.world import World

READ_SECONDS: Final = 40.0
"""A pass that builds a template has read the spec so long before at most."""


class Wishes:
    """What users have asked for and when, and when each revision of a pod template was first there."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._asked: dict[Key, tuple[Any, ...]] = {}
        self._edited: dict[Key, float] = {}
        """When a CacheCluster was last changed by its user after it was made."""
        self._revisions: dict[tuple[str, str], float] = {}
        world.store.watchers.append(self._changed)

    def _changed(self, key: Key, body: Object | None) -> None:
        if body is None:
            self._asked.pop(key, None)
            self._edited.pop(key, None)
        elif key.kind == "ControllerRevision":
            self._revisions.setdefault((key.namespace, key.name), self.world.loop.time())
        elif key.kind == names.KIND:
            meta = body["metadata"]
            asked = (meta["uid"], meta["generation"], meta.get("annotations", {}).get(names.ANNOTATION_RESTARTED))
            if self._asked.setdefault(key, asked) != asked:
                self._asked[key], self._edited[key] = asked, self.world.loop.time()

    def replacing(self, pod: Object) -> None:
        """A roll takes a pod: somebody has changed his mind since its template was built."""
        meta = pod["metadata"]
        cluster = Key(names.KIND, meta["namespace"], meta["labels"][names.LABEL_CLUSTER])
        built = self._revisions.get((meta["namespace"], meta["labels"]["controller-revision-hash"]))
        edited = self._edited.get(cluster)
        if built is not None and (edited is None or edited < built - READ_SECONDS):
            self.world.violate("S9", f"{meta['name']} is replaced, and nobody has asked for another")
