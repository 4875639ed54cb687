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

_FAMILIES: Final = "[{0}, {1}].map(v, v.split('.')).map(p, int(p[0]) * 1000 + int(p[1]))"
_FAMILY_OF_ROOT: Final = _FAMILIES.format("self.spec.version", "oldSelf.spec.version")
_FAMILY_OF_STATUS: Final = _FAMILIES.format("self.spec.version", "self.status.effective.version")

NO_DOWNGRADE: Final = Transition(
    f"[{_FAMILY_OF_ROOT}].all(f, f[0] >= f[1]) || !has(self.status) || !has(self.status.effective) || "
    f"[{_FAMILY_OF_STATUS}].all(f, f[0] >= f[1])",
    "a version that every node already runs cannot be taken back, for older engines do not read what newer ones "
    "wrote; keep it, or create a new CacheCluster with the older version",
    at="spec.version",
)


def name_problem(name: str) -> str | None:
    """What is wrong with ``metadata.name``, None if nothing is."""
    return next((rule.message for rule in NAME_RULES if not rule.holds(name)), None)
