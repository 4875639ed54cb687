"""Whether a StatefulSet's pods run the template that is wanted."""

from cachecluster.api import names
from cachecluster.domain.snapshot import Manifest
from cachecluster.domain.topology import Shard


def template_hash(statefulset: Manifest) -> str | None:
    """Hash of the pod template as the builder made it."""
    value: str | None = statefulset["metadata"].get("annotations", {}).get(names.ANNOTATION_TEMPLATE)
    return value


def settled_on_template(desired: Manifest, live: Manifest, shard: Shard) -> bool:
    """The wanted template is the current one, and every pod that there should be runs it."""
    status = live.get("status", {})
    update = status.get("updateRevision", "")
    return (
        template_hash(desired) == template_hash(live)
        and status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
        and status.get("currentRevision", "") == update
        and len(shard.members) == shard.expected
        and all(m.pod.revision == update and not m.pod.deleting for m in shard.members)
    )
