"""Write the chart's README: every value with its default and its description, from values.yaml and values.schema.json.

`make chart ARGS=--accept` runs it; a test says when the page is stale.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

HEAD = """\
# postyard

A mail delivery cluster on Kafka, for platforms that send from their own dedicated IPs.

    helm install mail helm/postyard --namespace mail --create-namespace --values my.yaml

[docs/egress.md](../../docs/egress.md) tells how mail gets its address and how to choose; [examples/](examples) has whole sets of values.
What an operator writes about mail (sources, pools, tenants, limits) is TOML in `config.files`: [docs/settings.md](../../docs/settings.md).

<!-- Written by scripts/chart_readme.py; change values.yaml or values.schema.json. -->

| value | default | meaning |
|---|---|---|
"""


def page(values: dict[str, Any], schema: dict[str, Any]) -> str:
    """Give the whole page."""
    lines = [f"| `{path}` | {default} | {what} |" for path, default, what in rows(values, schema)]
    return HEAD + "\n".join(lines) + "\n"


def rows(
    values: dict[str, Any], schema: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Give (path, default, meaning) of every value, from the outside in."""
    return _inside(values, schema, schema["definitions"], path)


def _inside(
    values: dict[str, Any], node: dict[str, Any], known: dict[str, Any], path: str
) -> Iterator[tuple[str, str, str]]:
    for name, inner in node.get("properties", {}).items():
        if not isinstance(inner, dict):
            continue
        inner = _resolved(inner, known)  # noqa: PLW2901 - the same node
        here = f"{path}.{name}" if path else name
        default = values.get(name)
        if inner.get("properties"):
            yield from _inside(default or {}, inner, known, here)
            continue
        yield here, _shown(default), _described(inner)
        more = inner.get("additionalProperties")
        if isinstance(more, dict) and "$ref" in more:
            yield from _inside({}, _resolved(more, known), known, f"{here}.NAME")


def _resolved(node: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = known[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return found


def _described(node: dict[str, Any]) -> str:
    words = str(node.get("description", ""))
    if "enum" in node:
        words += " " + ", ".join(f"`{one}`" for one in node["enum"])
    return words.replace("|", "\\|")


def _shown(default: object) -> str:
    return "" if default is None or default in ("", [], {}) else f"`{json.dumps(default)}`"


if __name__ == "__main__":
    sys.stdout.write(page(*json.load(sys.stdin)))
