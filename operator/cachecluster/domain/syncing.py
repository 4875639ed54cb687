"""What a node that is up and not yet in step is about, and how far it has come, for people."""

from typing import Final

from cachecluster.domain.nodes import NodeView

MIB: Final = 2**20
SLOW_SECONDS: Final = 2.0


def is_catching_up(view: NodeView | None) -> bool:
    """It loads data or copies its primary's: that may take hours, and whoever interrupts it makes it begin anew."""
    return view is not None and (view.loading or (view.link is not None and view.link.sync_in_progress))


def catching_up(view: NodeView | None) -> str:
    """What it does and how far that has come, or nothing: ``: it loads its data, 40 % so far``."""
    if view is None or not is_catching_up(view):
        return ""
    if view.loading:
        return f": it loads its data{_so_far(view.loaded_percent)}"
    if view.link is None or view.link.sync_percent is not None or not view.link.sync_received:
        return f": it copies its primary's data{_so_far(view.link.sync_percent if view.link else None)}"
    return f": it copies its primary's data, {view.link.sync_received // MIB} MiB so far"


def look_again(view: NodeView | None, soon: float) -> float:
    """Seconds until a look at whether it is in step: ``soon``, but later while much is on its way."""
    much = view is not None and view.link is not None and (view.link.sync_received or view.link.sync_percent)
    return SLOW_SECONDS if is_catching_up(view) and much else soon


def _so_far(percent: int | None) -> str:
    return "" if percent is None else f", {percent} % so far"
