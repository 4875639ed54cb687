"""What a pass needs from the outside, and the little that it may remember."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cachecluster.domain.snapshot import Host, Parameters
from cachecluster.engines.client import NodeConnector
from cachecluster.kube.api import KubeApi
from cachecluster.reconcile.events import EventRecorder


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The edges of the operator. Everything that is not pure comes in here."""

    kube: KubeApi
    nodes: NodeConnector
    hosts: Callable[[], Mapping[str, Host]]
    """Kubernetes nodes by name, from a watch."""
    now: Callable[[], float]
    """Unix seconds."""
    generate_password: Callable[[], str]
    operator_namespace: str
    events: EventRecorder
    leader: Callable[[], bool]
    """Whether this process may still act, asked before every action."""


@dataclass
class Memory:
    """Since when something has been seen, within this process. Losing it only makes the operator wait again."""

    unreachable_since: dict[str, float] = field(default_factory=dict)
    """By pod uid."""
    foreign_since: dict[str, float] = field(default_factory=dict)
    """By node id."""
    taken_over: set[str] = field(default_factory=set)
    """uids of the pods on whose nodes a predecessor's connections have been ended."""
    refusals: dict[Parameters, tuple[str, float]] = field(default_factory=dict)
    """What an engine refused to set, with its words and when (Unix seconds)."""
    announced: set[tuple[str, str]] = field(default_factory=set)
    """(reason, message) of warnings that are still true."""
