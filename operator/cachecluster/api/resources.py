"""Compute resources of each node, as users write them."""

from typing import Any, ClassVar, Final

from pydantic import Field

from cachecluster.api.fields import CpuAmount, MemoryAmount
from cachecluster.api.quantity import exact
from cachecluster.api.rules import Model, Rule

MIN_MEMORY: Final = "64Mi"
"""An idle node of the 8.x and 9.x families takes about 10 MiB; the rest is for buffers and a fork."""


class ResourceList(Model):
    """Amounts of compute resources, as Kubernetes quantities."""

    cpu: CpuAmount | None = Field(default=None, description="CPU cores, for example 500m or 2.")
    memory: MemoryAmount | None = Field(default=None, description="Memory, for example 2Gi.")


class Limits(ResourceList):
    """The most that each node may use."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!isQuantity(string(self.memory)) || !quantity(string(self.memory)).isLessThan(quantity('{MIN_MEMORY}'))",
            lambda self: exact(self.memory) >= exact(MIN_MEMORY),
            f"must be at least {MIN_MEMORY}",
            at="memory",
        ),
    )

    memory: MemoryAmount = Field(
        description=f"Memory, for example 2Gi, at least {MIN_MEMORY}. maxmemory follows from it: a part is left free "
        "for buffers and for what a snapshot or a replica's first copy takes."
    )


def _within(resource: str) -> Rule:
    """requests do not exceed limits."""
    request, limit = f"string(self.requests.{resource})", f"string(self.limits.{resource})"

    def holds(self: Any) -> bool:
        asked, most = getattr(self.requests, resource, None), getattr(self.limits, resource)
        return asked is None or most is None or exact(asked) <= exact(most)

    return Rule(
        f"!has(self.requests) || !has(self.requests.{resource}) || !has(self.limits.{resource}) || "
        f"!isQuantity({request}) || !isQuantity({limit}) || "
        f"!quantity({request}).isGreaterThan(quantity({limit}))",
        holds,
        f"must not exceed limits.{resource}; lower the one or raise the other",
        at=f"requests.{resource}",
    )


class Resources(Model):
    """Compute resources of each node."""

    RULES: ClassVar[tuple[Rule, ...]] = (_within("memory"), _within("cpu"))

    requests: ResourceList | None = Field(
        default=None,
        description="What the scheduler sets aside for each node; what is omitted follows from limits. A busy machine "
        "shares its processors in proportion to requests.cpu: without any, a node may answer seconds late.",
    )
    limits: Limits = Field(description="The most that each node may use; limits.memory decides how much data fits.")
