"""docs/reference.md, made from the CRD: ``python -m cachecluster.api.reference --write PATH``."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cachecluster.api.crd import definition
from cachecluster.api.owned_parameters import OWNED
from cachecluster.api.root import EDIT_RULES, NAME_RULES

_HEAD: Final = """<!-- Generated from operator/cachecluster/api by `make generate`; edit the models instead. -->
# Fields of a CacheCluster

*For who uses a cache.* `kubectl explain cacheclusters.spec --recursive` shows the same; `examples/` has whole
resources to start from. An omitted field means what its description says: the operator never writes `spec`, and the
API server adds nothing to it.
"""
_PARAMETERS: Final = """
## Parameters that the operator sets

`spec.parameters` takes every parameter of the engine's version by its present name, except these:

| Names | Why |
|---|---|
"""


def reference() -> str:
    """The whole page."""
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    page = _HEAD
    for part, title in (("spec", "What you write"), ("status", "What the operator reports")):
        page += f"\n## {title}: `{part}`\n\n| Field | Type | Meaning |\n|---|---|---|\n"
        page += "".join(_rows(schema["properties"][part], part))
        page += _rules(schema["properties"][part], part) if part == "spec" else ""
    return page + _PARAMETERS + "".join(_owned())


def _rows(node: dict[str, Any], at: str) -> Iterator[str]:
    required = node.get("required", ())
    for name, child in node.get("properties", {}).items():
        path = f"{at}.{name}"
        mark = " **required**" if name in required else ""
        yield f"| `{path}` | {_type(child)}{mark} | {_cell(child.get('description', ''))} |\n"
        inner, suffix = _inner(child)
        yield from _rows(inner, path + suffix)


def _inner(node: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What lies below a field, and how its path goes on."""
    if node.get("type") == "array":
        return node["items"], "[]"
    return node, ""


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array":
        return f"list of {_plural(_type(node['items']))}"
    if "additionalProperties" in node:
        return f"map of {_plural(_type(node['additionalProperties']))}"
    return f"{node['type']}{_bounds(node)}"


def _plural(kind: str) -> str:
    return kind if " " in kind or kind.startswith("`") else f"{kind}s"


def _bounds(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is None and high is None:
        return ""
    return f", {low} and more" if high is None else f", {low} to {high}"


def _rules(node: dict[str, Any], at: str) -> str:
    lines = [f"* `metadata.name`: {rule.message.removeprefix('metadata.name ')}\n" for rule in NAME_RULES]
    lines += [*(f"* `{t.at}`: {t.message}\n" for t in EDIT_RULES), *_messages(node, at)]
    return "\nRules over several fields, and over edits:\n\n" + "".join(dict.fromkeys(lines))


def _messages(node: dict[str, Any], at: str) -> Iterator[str]:
    for rule in node.get("x-kubernetes-validations", ()):
        if node.get("type") == "object" and "messageExpression" not in rule:
            yield f"* `{at}{rule.get('fieldPath', '')}`: {rule['message']}\n"
    for name, child in node.get("properties", {}).items():
        inner, suffix = _inner(child)
        yield from _messages(inner, f"{at}.{name}{suffix}")


def _owned() -> Iterator[str]:
    for group in OWNED:
        free = f" (but not {', '.join(f'`{n}`' for n in group.free)})" if group.free else ""
        listed = [f"`{name}`" for name in group.names] + [f"`{prefix}*`{free}" for prefix in group.prefixes]
        yield f"| {', '.join(listed)} | {_cell(group.advice)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or tell whether it differs from the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="PATH", help="write the page")
    what.add_argument("--check", type=Path, metavar="PATH", help="fail if the page is not as it would be")
    options = parser.parse_args(arguments)
    if options.write:
        options.write.write_text(reference())
        return 0
    if options.check.is_file() and options.check.read_text() == reference():
        return 0
    sys.stderr.write(f"{options.check} does not match the models in cachecluster.api; run `make generate`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
