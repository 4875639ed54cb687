"""The CustomResourceDefinition, made from the models: ``python -m cachecluster.api.crd --write PATH...``.

A path in a Helm chart's ``templates/`` gets the same object, to be switched by ``crds.enabled`` and ``crds.keep``.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from cachecluster.api import names
from cachecluster.api.root import EDIT_RULES, NAME_RULES
from cachecluster.api.schema import structural
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.api.status import CacheClusterStatus

COLUMNS: Final = (
    ("Engine", "string", ".spec.engine", "Cache engine.", 0),
    ("Version", "string", ".spec.version", "Release family of the engine.", 0),
    ("Shards", "integer", ".spec.topology.shards", "Number of shards.", 0),
    ("Replicas", "integer", ".spec.topology.replicasPerShard", "Replicas beside each primary.", 0),
    ("Ready", "string", ".status.ready", "Ready nodes of all nodes.", 0),
    ("Status", "string", ".status.reason", "The state in one word.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the creation.", 0),
    ("Message", "string", ".status.message", "The state in one sentence.", 1),
)

_DESCRIPTION: Final = (
    "A cache cluster: nodes of a cache engine, formed into one cluster, spread over zones, and kept as the spec says."
)
_GENERATED: Final = "# Generated from operator/cachecluster/api by `make generate`; edit the models instead.\n"


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as JSON."""
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.topology.shards",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [_column(*c) for c in COLUMNS],
        "schema": {"openAPIV3Schema": _root()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.KIND.lower(),
                "shortNames": ["cc"],
                "categories": ["all"],
            },
            "versions": [version],
        },
    }


def _root() -> dict[str, Any]:
    return {
        "description": _DESCRIPTION,
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{names.API_VERSION}."},
            "kind": {"type": "string", "description": f"{names.KIND}."},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": structural(CacheClusterSpec),
            "status": structural(CacheClusterStatus, mode="serialization"),
        },
        "x-kubernetes-validations": [*(r.to_json() for r in NAME_RULES), *(t.to_json() for t in EDIT_RULES)],
    }


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def manifest() -> str:
    """The CustomResourceDefinition as YAML; the same models always give the same bytes."""
    return _GENERATED + _yaml(definition())


def chart_template() -> str:
    """The same as a Helm template."""
    crd = definition()
    head = {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "metadata": crd["metadata"]}
    keep = "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    body = _yaml(head) + keep + _yaml({"spec": crd["spec"]})
    if "{{" in _yaml(crd):
        raise ValueError("Helm would take a part of the schema for a template")
    return f"{_GENERATED}{{{{- if .Values.crds.enabled }}}}\n{body}{{{{- end }}}}\n"


def _yaml(data: dict[str, Any]) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, width=120, allow_unicode=True))


def text_for(path: Path) -> str:
    """What belongs into the file at ``path``."""
    return chart_template() if path.parent.name == "templates" else manifest()


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or tell which ones differ from the models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", nargs="+", type=Path, metavar="PATH", help="write the files")
    what.add_argument("--check", nargs="+", type=Path, metavar="PATH", help="fail if a file is not as it would be")
    options = parser.parse_args(arguments)
    for path in options.write or ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_for(path))
    stale = [p for p in options.check or () if not p.is_file() or p.read_text() != text_for(p)]
    for path in stale:
        sys.stderr.write(f"{path} does not match the models in cachecluster.api; run `make generate`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
