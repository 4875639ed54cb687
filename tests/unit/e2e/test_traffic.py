"""Rules that cut traffic: both ends, one way, one port; and taken away as they were added."""

import pytest

from e2e.platform import Direction, Traffic
from e2e.platform.nodes import NodeShell


class Scripts(NodeShell):
    """Notes what would run on which node."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

    def on_node(self, node: str, script: str) -> str:
        self.ran.append((node, script))
        return ""

    def address_book(self, node: str) -> str:
        return f"/{node}/pods"


def test_a_node_is_cut_off_in_both_directions() -> None:
    assert Traffic("n0", ("10.0.0.1",)).rules() == [
        "POSTROUTING -d 10.0.0.1 -j DROP",
        "PREROUTING -s 10.0.0.1 -j DROP",
    ]


def test_one_way_of_one_pod() -> None:
    traffic = Traffic("n0", ("10.0.1.0/24",), here="10.0.0.9", direction=Direction.OUT)
    assert traffic.rules() == ["POSTROUTING -s 10.0.0.9 -d 10.0.1.0/24 -j DROP"]


def test_one_port_at_either_end() -> None:
    traffic = Traffic("n0", ("10.0.1.2",), direction=Direction.IN, port=16379)
    assert traffic.rules() == [
        "PREROUTING -s 10.0.1.2 -p tcp --sport 16379 -j DROP",
        "PREROUTING -s 10.0.1.2 -p tcp --dport 16379 -j DROP",
    ]


def test_each_node_gets_its_rules_and_loses_them_even_if_the_block_fails() -> None:
    nodes = Scripts()
    with pytest.raises(RuntimeError), nodes.cut(Traffic("n0", ("10.0.0.1",)), Traffic("n1", ("10.0.0.2",))):
        raise RuntimeError
    added, removed = nodes.ran[:2], nodes.ran[2:]
    assert [node for node, _ in added] == ["n0", "n1"]
    assert removed == [(node, script.replace("-A ", "-D ")) for node, script in reversed(added)]


def test_what_was_cut_before_a_node_refused_is_mended() -> None:
    class Refusing(Scripts):
        def on_node(self, node: str, script: str) -> str:
            if node == "n1":
                raise OSError(node)
            return super().on_node(node, script)

    nodes = Refusing()
    with pytest.raises(OSError, match="n1"), nodes.cut(Traffic("n0", ("10.0.0.1",)), Traffic("n1", ("10.0.0.2",))):
        pass
    assert [script.count("-D ") for _, script in nodes.ran] == [0, 2]


def test_the_allocator_goes_on_after_the_address_before() -> None:
    nodes = Scripts()
    nodes.next_address("n3", "10.0.3.17")
    assert nodes.ran == [("n3", "printf 10.0.3.16 > /n3/pods/last_reserved_ip.0")]
