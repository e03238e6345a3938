"""lineage: tree, Mermaid, DOT, JSON."""

import pytest

from cli import _graph
from registry.results import Lineage
from tests.cli import samples
from tests.cli.conftest import FakeRegistry, Run


@pytest.mark.parametrize(
    ("words", "direction", "depth"),
    [([], "up", None), (["--up"], "up", None), (["--down", "--depth", "2"], "down", 2)],
)
def test_lineage_passes_its_options(
    fake: FakeRegistry, run: Run, words: list[str], direction: str, depth: int | None
) -> None:
    fake.answers["lineage"] = samples.lineage()
    assert run("lineage", "top", *words).exit_code == 0
    assert fake.asked == {"ref": "top", "direction": direction, "depth": depth}


def test_a_version_reached_twice_is_drawn_once_and_then_marked(fake: FakeRegistry, run: Run) -> None:
    fake.answers["lineage"] = samples.lineage()
    lines = run("lineage", "top").stdout.splitlines()
    assert lines[0] == "top@1  lora  = left - 0.4*right"
    assert [line.lstrip("│├└─ ") for line in lines[1:]] == [
        "1*left@1  lora  [prod]",
        "0.5*root@1 (deleted)  lora",
        "-0.4*right@1  lora",
        "declared: root@1 (shown above)",
    ]


def test_downstream_follows_the_edges_the_other_way(fake: FakeRegistry, run: Run) -> None:
    fake.answers["lineage"] = samples.lineage(ref="root@1", direction="down")
    lines = run("lineage", "root", "--down").stdout.splitlines()
    assert lines[0].startswith("root@1")
    assert sum("top@1" in line for line in lines) == 2
    assert "shown above" in lines[-1]


def test_a_deep_graph_is_drawn(fake: FakeRegistry, run: Run) -> None:
    depth = 300
    nodes = tuple(samples.node(f"v@{i + 1}", i) for i in range(depth))
    edges = tuple(samples.edge(f"v@{i}", f"v@{i + 1}") for i in range(1, depth))
    fake.answers["lineage"] = samples.lineage(ref="v@1", nodes=nodes, edges=edges)
    lines = run("lineage", "v").stdout.splitlines()
    assert len(lines) == depth
    assert f"v@{depth}" in lines[-1]


def test_a_graph_cut_by_depth_draws_only_known_ends() -> None:
    graph = samples.lineage(nodes=(samples.node("top@1"), samples.node("left@1", 1)))
    assert _graph.mermaid(graph).count("-->") == 1
    assert _graph.dot(graph).count("->") == 1


def test_mermaid(fake: FakeRegistry, run: Run) -> None:
    fake.answers["lineage"] = samples.lineage()
    assert run("lineage", "top", "--as", "mermaid").stdout.splitlines() == [
        "flowchart LR",
        '    n0["top@1<br/>lora<br/>left - 0.4*right"]',
        '    n1["left@1<br/>lora"]',
        '    n2["right@1<br/>lora"]',
        '    n3["root@1 (deleted)<br/>lora"]',
        '    n1 -->|"1"| n0',
        '    n2 -->|"-0.4"| n0',
        '    n3 -->|"0.5"| n1',
        "    n3 -.-> n2",
    ]


def test_dot(fake: FakeRegistry, run: Run) -> None:
    fake.answers["lineage"] = samples.lineage()
    text = run("lineage", "top", "--as", "dot").stdout
    assert text.startswith("digraph lineage {\n")
    assert '"top@1" [label="top@1\\nlora\\nleft - 0.4*right"];' in text
    assert '"right@1" -> "top@1" [label="-0.4"];' in text
    assert '"root@1" -> "right@1" [label="", style=dashed];' in text
    assert text.endswith("}\n")


def test_labels_cannot_break_out_of_a_diagram() -> None:
    evil = 'x"];click n0 "javascript:alert(1)" <b>#\\\n\x1b'
    graph = samples.lineage(nodes=(samples.node("top@1", expression=evil),), edges=())
    mermaid = _graph.mermaid(graph)
    assert mermaid.splitlines()[1] == (
        '    n0["top@1<br/>lora<br/>x#34;#93;#59;click n0 #34;javascript#58;alert(1)#34;'
        ' #60;b#62;#35;#92;#92;n#92;x1b"]'
    )
    label = next(line for line in _graph.dot(graph).splitlines() if "label" in line)
    assert label.endswith(r'x\"];click n0 \"javascript:alert(1)\" <b>#\\\\n\\x1b"];')


@pytest.mark.parametrize(
    "words", [["--as", "json"], ["--format", "json"], ["--format", "json", "--as", "dot"]]
)
def test_json_is_the_graph(fake: FakeRegistry, run: Run, words: list[str]) -> None:
    fake.answers["lineage"] = samples.lineage()
    assert Lineage.model_validate_json(run("lineage", "top", *words).stdout) == samples.lineage()


def test_quiet_is_one_reference_per_line(fake: FakeRegistry, run: Run) -> None:
    fake.answers["lineage"] = samples.lineage()
    done = run("lineage", "top", "--as", "tree", "--format", "quiet")
    assert done.stdout.splitlines() == ["top@1", "left@1", "right@1", "root@1"]
