"""What of a spec an edit must leave as it is, for the API server alone to check."""

from typing import Final

from cachecluster.api.rules import Transition


def _mode_kept(field: str, what: str, default: str) -> Transition:
    """An edit leaves ``field`` as it is; an omitted one means the mode ``default``."""
    same = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    values = [f"({o}.?{field}.mode.orValue('{default}') == '{default}')" for o in ("self", "oldSelf")]
    return _fixed(field, f"{' && '.join(values)} || ({same})", what)


def _placement_kept() -> Transition:
    """An edit leaves alone what decides where pods run."""
    unchanged = []
    for field in ("zones", "spread", "topologyKey", "nodeSelector", "tolerations"):
        now, before = (f"has({o}.placement) && has({o}.placement.{field})" for o in ("self", "oldSelf"))
        same = f"self.placement.{field} == oldSelf.placement.{field}"
        unchanged.append(f"({now}) == ({before}) && (!({now}) || {same})")
    what = "the placement, nodeLossGraceSeconds apart (it would move pods away from their volumes)"
    return _fixed("placement", " && ".join(unchanged), what)


def _fixed(field: str, unchanged: str, what: str) -> Transition:
    return Transition(
        unchanged,
        f"{what} of a living cluster cannot be changed by this version; write back what it was, or create a new "
        "CacheCluster and move the clients to it",
        at=field,
    )


def _persistence_kept() -> Transition:
    """An edit leaves mode and StorageClass as they are; the size may grow (``api.root`` forbids that it shrinks)."""
    none = " && ".join(f"{o}.?persistence.mode.orValue('None') == 'None'" for o in ("self", "oldSelf"))
    now, before = "self.persistence", "oldSelf.persistence"
    classes = (
        f"has({now}.storageClassName) == has({before}.storageClassName) && "
        f"(!has({now}.storageClassName) || {now}.storageClassName == {before}.storageClassName)"
    )
    return Transition(
        f"({none}) || (has({now}) && has({before}) && {now}.mode == {before}.mode && {classes})",
        "mode and storageClassName of a living cluster's persistence cannot be changed, only its size can grow; write "
        "back what they were, or create a new CacheCluster and move the clients to it",
        at="persistence",
    )


PERSISTENCE_KEPT: Final = _persistence_kept()
PLACEMENT_KEPT: Final = _placement_kept()
AUTH_KEPT: Final = _mode_kept("auth", "the authentication", default="Password")
