"""Rules on a whole CacheCluster: its name, and edits that only its status can judge."""

import re
from typing import Final

from cachecluster.api import names
from cachecluster.api.rules import Rule, Transition

MAX_NAME: Final = 40
"""With ``-499`` a StatefulSet's name, and with another 11 characters its pods' revision label, has to fit 63."""
NODES_SUFFIX: Final = names.nodes_service("")

_NAME: Final = re.compile("[a-z](?:[-a-z0-9]*[a-z0-9])?")

NAME_RULES: Final = (
    Rule(
        f"size(self.metadata.name) <= {MAX_NAME}",
        lambda name: len(name) <= MAX_NAME,
        f"metadata.name must have at most {MAX_NAME} characters, for the names of pods are made from it",
    ),
    Rule(
        f"self.metadata.name.matches('^(?:{_NAME.pattern})$')",
        lambda name: _NAME.fullmatch(name) is not None,
        "metadata.name must begin with a letter and consist of lower-case letters, digits and dashes, for a Service "
        "is named after it",
    ),
    Rule(
        f"!self.metadata.name.endsWith('{NODES_SUFFIX}')",
        lambda name: not name.endswith(NODES_SUFFIX),
        f"metadata.name must not end in {NODES_SUFFIX}, for Services of other clusters are named like that",
    ),
)

_MAJORS: Final = "[{0}, {1}].map(v, int(v.split('.')[0]))"
_WANTED: Final = _MAJORS.format("self.spec.version", "oldSelf.spec.version")
_REACHED: Final = _MAJORS.format("self.spec.version", "self.status.effective.version")

NO_DOWNGRADE: Final = Transition(
    f"[{_WANTED}].all(m, m[0] >= m[1]) || !has(self.status) || !has(self.status.effective) || "
    f"[{_REACHED}].all(m, m[0] >= m[1])",
    "every node already runs a later major version, and earlier engines do not read what it wrote (Valkey 9 to 8); "
    "write back the version that it was, or create a new CacheCluster with the earlier one and move the clients to it",
    at="spec.version",
)
"""Within a major version the format of snapshots and logs is the same (engine-facts §9), so that one can go back; and
so can a roll to a later one that is not complete: what stalled it must be possible to take back (S11)."""

_NOW: Final = "self.spec.persistence.size"
_BEFORE: Final = "oldSelf.spec.persistence.size"
_REACHED_SIZE: Final = "self.status.effective.volumeSize"

NO_SHRINKING: Final = Transition(
    "!has(self.spec.persistence) || !has(oldSelf.spec.persistence) || !has(self.spec.persistence.size) || "
    f"!has(oldSelf.spec.persistence.size) || !isQuantity(string({_NOW})) || !isQuantity(string({_BEFORE})) || "
    f"!quantity(string({_NOW})).isLessThan(quantity(string({_BEFORE}))) || "
    "!has(self.status) || !has(self.status.effective) || !has(self.status.effective.volumeSize) || "
    f"!quantity(string({_NOW})).isLessThan(quantity({_REACHED_SIZE}))",
    "volumes cannot shrink; write at least what they have (status.effective.volumeSize), or create a new CacheCluster "
    "with smaller ones and move the clients to it",
    at="spec.persistence.size",
)
"""Growth that is not complete can be taken back: the StorageClass may not allow it."""

EDIT_RULES: Final = (NO_DOWNGRADE, NO_SHRINKING)


def name_problem(name: str) -> str | None:
    """What is wrong with ``metadata.name``, None if nothing is."""
    return next((rule.message for rule in NAME_RULES if not rule.holds(name)), None)
