"""Whether volumes can grow: StorageClasses are asked only while a claim is smaller than its spec."""

import asyncio
from collections.abc import Mapping

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.snapshot import ClusterRef, Expansion, Manifest, ObjectKey
from cachecluster.domain.volumes import is_ours, parse_claim, wanted_size
from cachecluster.kube.api import KubeApi, NotFound, Rejected


async def storage_classes(
    kube: KubeApi, ref: ClusterRef, spec: CacheClusterSpec, children: Mapping[ObjectKey, Manifest]
) -> dict[str, Expansion]:
    """The classes of claims that are to grow; raises KubeError when the API server does not answer."""
    size = wanted_size(spec)
    if size is None:
        return {}
    bodies = (o for key, o in children.items() if key.kind == "PersistentVolumeClaim" and is_ours(o, ref))
    names = {c.storage_class for c in map(parse_claim, bodies) if c.requested < size and c.storage_class}
    ordered = sorted(names)
    return dict(zip(ordered, await asyncio.gather(*(_expansion(kube, name) for name in ordered)), strict=True))


async def _expansion(kube: KubeApi, name: str) -> Expansion:
    try:
        found = await kube.get("storage.k8s.io/v1", "StorageClass", "", name)
    except NotFound:
        return Expansion.MISSING
    except Rejected:
        return Expansion.UNREADABLE
    return Expansion.ALLOWED if found.get("allowVolumeExpansion") is True else Expansion.REFUSED
