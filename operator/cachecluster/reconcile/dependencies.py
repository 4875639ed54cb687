"""What a pass needs from the outside, and the little that it may remember."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cachecluster.domain.failovers import Chronicle
from cachecluster.domain.snapshot import Host, Parameters
from cachecluster.engines.client import NodeConnector, NodeWatcher
from cachecluster.kube.api import KubeApi
from cachecluster.reconcile.events import EventRecorder


@dataclass(frozen=True, slots=True)
class Senses:
    """What it takes to look at a cluster and to plan, but not to act."""

    kube: KubeApi
    nodes: NodeConnector
    hosts: Callable[[], Mapping[str, Host]]
    """Kubernetes nodes by name, from a watch."""
    now: Callable[[], float]
    """Unix seconds."""
    operator_namespace: str
    leader: Callable[[], bool]
    """Whether this process may still act, asked before every action."""
    clock: Callable[[], float]
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps."""


@dataclass(frozen=True, slots=True)
class Dependencies(Senses):
    """The edges of the operator. Everything that is not pure comes in here."""

    generate_password: Callable[[], str]
    events: EventRecorder
    watcher: NodeWatcher


@dataclass
class Memory:
    """Since when something has been seen, within this process. Losing it only makes the operator wait again."""

    unreachable_since: dict[str, float] = field(default_factory=dict)
    """By pod uid; by the clock that nobody sets, as all that decides something."""
    foreign_since: dict[str, float] = field(default_factory=dict)
    """By node id."""
    short_since: float | None = None
    """Some StatefulSet has had fewer pods than it should; by the same clock as silence."""
    taken_over: set[str] = field(default_factory=set)
    """uids of the pods on whose nodes a predecessor's connections have been ended."""
    keys_moved: int = 0
    """Keys that changed shards since the progress was last written."""
    refusals: dict[Parameters, tuple[str, float]] = field(default_factory=dict)
    """What an engine refused to set, with its words and when (Unix seconds)."""
    resize_refusals: dict[tuple[str, str], float] = field(default_factory=dict)
    """Resizes that the API server refused, by pod uid and hash of the resources, and when (Unix seconds)."""
    resizing_since: dict[str, float] = field(default_factory=dict)
    """By uid of each pod whose kubelet is not done with a resize."""
    chronicle: Chronicle = field(default_factory=Chronicle)
    """Who has led, and the failovers so far."""
    found_loss: str = ""
    """The last data loss that this process has found itself."""
    told_loss: str = ""
    """The last one that it has announced."""
    announced: set[tuple[str, str]] = field(default_factory=set)
    """(reason, message) of warnings that are still true."""
