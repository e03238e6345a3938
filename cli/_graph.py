"""A lineage graph as a tree on the terminal, as Mermaid, and as DOT."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from ._parts import line, text
from ._text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from registry.results import Lineage, LineageEdge, LineageNode

_INDENT = 4
_MERMAID_PLAIN = re.compile(r"[^A-Za-z0-9 @._/*+()=,-]")


def tree(lineage: Lineage, console: Console) -> Iterator[RenderableType]:
    """The graph as a tree: a version reached twice is drawn once, and referred to after that."""
    from rich.tree import Tree

    nodes = {node.ref: node for node in lineage.nodes}
    onward = _onward(lineage)
    root = Tree(_label(nodes.get(lineage.ref), lineage.ref, None), guide_style="dim")
    drawn = {lineage.ref}
    waiting: list[tuple[Tree, LineageEdge, int]] = [(root, edge, 1) for edge in reversed(onward[lineage.ref])]
    deepest = 0
    while waiting:
        branch, edge, depth = waiting.pop()
        ref = edge.parent if lineage.direction == "up" else edge.child
        deepest = max(deepest, depth)
        if ref in drawn:
            branch.add(text(f"{_weight(edge)}{ref} (shown above)", "dim"))
            continue
        drawn.add(ref)
        grown = branch.add(_label(nodes.get(ref), ref, edge))
        waiting.extend((grown, following, depth + 1) for following in reversed(onward[ref]))
    if deepest * _INDENT > console.width // 2:  # too deep to fold into the screen
        console.width = deepest * _INDENT + 1000
    yield root


def _onward(lineage: Lineage) -> defaultdict[str, list[LineageEdge]]:
    """The edges that lead away from each version, in the direction asked for."""
    onward: defaultdict[str, list[LineageEdge]] = defaultdict(list)
    for edge in lineage.edges:
        onward[edge.child if lineage.direction == "up" else edge.parent].append(edge)
    return onward


def _weight(edge: LineageEdge) -> str:
    if edge.relation == "declared":
        return "declared: "
    return f"{edge.coefficient}*" if edge.coefficient is not None else ""


def _label(node: LineageNode | None, ref: str, edge: LineageEdge | None) -> Text:
    weight = _weight(edge) if edge else ""
    if node is None:
        return line((weight, "cyan"), (ref, "bold"))
    return line(
        (weight, "cyan"),
        (ref, "bold strike" if node.deleted else "bold"),
        (_marks(node), "red"),
        f"  {node.kind}",
        (f"  [{', '.join(node.aliases)}]", "green") if node.aliases else "",
        (f"  = {node.expression}", "dim") if node.expression else "",
    )


def _marks(node: LineageNode) -> str:
    marks = {
        "deleted": node.deleted,
        "revoked": node.revoked,
        "from revoked": node.affected,
        "not held": not node.held,
    }
    said = ", ".join(mark for mark, holds in marks.items() if holds)
    return f" ({said})" if said else ""


def mermaid(lineage: Lineage) -> str:
    """A Mermaid flowchart from parents to children; every odd character becomes a character code."""
    names = {node.ref: f"n{i}" for i, node in enumerate(lineage.nodes)}
    lines = ["flowchart LR"]
    for node in lineage.nodes:
        label = "<br/>".join(_mermaid(part) for part in _node_text(node))
        lines.append(f'    {names[node.ref]}["{label}"]')
    for edge in _drawable(lineage):
        arrow = "-.->" if edge.relation == "declared" else "-->"
        label = f'|"{_mermaid(edge.coefficient)}"|' if edge.coefficient is not None else ""
        lines.append(f"    {names[edge.parent]} {arrow}{label} {names[edge.child]}")
    return "\n".join(lines)


def dot(lineage: Lineage) -> str:
    """A Graphviz digraph from parents to children."""
    lines = ["digraph lineage {", "    rankdir=LR;", "    node [shape=box];"]
    for node in lineage.nodes:
        label = "\\n".join(_dot(part) for part in _node_text(node))
        lines.append(f'    "{_dot(node.ref)}" [label="{label}"];')
    for edge in _drawable(lineage):
        label = _dot(edge.coefficient) if edge.coefficient is not None else ""
        style = ", style=dashed" if edge.relation == "declared" else ""
        lines.append(f'    "{_dot(edge.parent)}" -> "{_dot(edge.child)}" [label="{label}"{style}];')
    return "\n".join([*lines, "}"])


def _drawable(lineage: Lineage) -> Iterator[LineageEdge]:
    """Edges with both ends in the graph: a limited depth cuts some."""
    known = {node.ref for node in lineage.nodes}
    return (edge for edge in lineage.edges if {edge.child, edge.parent} <= known)


def _node_text(node: LineageNode) -> list[str]:
    parts = [f"{node.ref}{_marks(node)}", node.kind, node.expression or ""]
    return [part for part in parts if part]


def _mermaid(value: str) -> str:
    return _MERMAID_PLAIN.sub(lambda match: f"#{ord(match.group())};", clean(value))


def _dot(value: str) -> str:
    return clean(value).replace("\\", "\\\\").replace('"', '\\"')
