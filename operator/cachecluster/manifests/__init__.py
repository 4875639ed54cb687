"""Builders: facts in, Kubernetes objects out. Pure."""

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.layout import members_by_shard
from cachecluster.domain.snapshot import Manifest
from cachecluster.manifests.config import config_map, live_config_map
from cachecluster.manifests.disruption import budgets
from cachecluster.manifests.facts import Facts, Passwords
from cachecluster.manifests.network import network_policies
from cachecluster.manifests.secrets import derived_secrets, system_secret
from cachecluster.manifests.services import endpoint_service, nodes_service
from cachecluster.manifests.statefulset import shard_statefulset

__all__ = ["Facts", "Passwords", "build", "system_secret"]


def build(spec: CacheClusterSpec, facts: Facts) -> tuple[Manifest, ...]:
    """Every child that ``spec`` asks for, complete, in the order in which to create them.

    The system Secret is not among them: it is created once (``system_secret``) and never applied. StatefulSets come
    with their partition at the number of members. Raises ValueError for an amount that is no Kubernetes quantity.
    """
    config = config_map(spec, facts.ref)
    members = members_by_shard(spec, facts.present)
    secrets = derived_secrets(spec, facts.ref, facts.passwords) if facts.passwords is not None else ()
    return (
        nodes_service(facts.ref),
        endpoint_service(facts.ref),
        *secrets,
        config,
        live_config_map(spec, facts.ref, facts.remembered),
        *network_policies(spec, facts.ref, facts.operator_namespace),
        *budgets(facts.ref, members),
        *(shard_statefulset(spec, facts, shard, count, config["metadata"]["name"]) for shard, count in members.items()),
    )
