"""What a pass is given, for tests that need only some of it."""

from dataclasses import replace
from typing import Any

from cachecluster.reconcile.dependencies import Dependencies


def dependencies(**given: Any) -> Dependencies:
    """A leader at time zero, in a Kubernetes without nodes; whatever else is not given must not be used."""
    unused: Any = None
    idle = Dependencies(
        kube=unused,
        nodes=unused,
        hosts=dict,
        now=lambda: 0.0,
        generate_password=str,
        operator_namespace="ops",
        events=unused,
        leader=lambda: True,
        watcher=unused,
        clock=lambda: 0.0,
    )
    return replace(idle, **given)
