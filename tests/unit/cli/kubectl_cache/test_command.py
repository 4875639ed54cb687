"""The command line: what it understands, and how it ends when something is wrong."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachecluster.cli.kubectl_cache import command, main
from cachecluster.cli.kubectl_cache.command import duration, parse
from cachecluster.cli.kubectl_cache.screen import screen_for
from cachecluster.kube.api import NotFound, Rejected, Unavailable
from cachecluster.kube.credentials import Credentials
from tests.unit.cli.kubectl_cache.shelf import Shelf, body_of, pods_of
from tests.unit.domain.building import formed


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Shelf], list[Any]]:
    """Put a shelf in the place of the API server; returns with which credentials it was asked."""

    def install(shelf: Shelf) -> list[Any]:
        asked: list[Any] = []

        class Client:
            def __init__(self, credentials: Credentials, *, agent: str) -> None:
                asked.append((credentials, agent))

            async def __aenter__(self) -> Shelf:
                return shelf

            async def __aexit__(self, *_: object) -> None:
                return None

        monkeypatch.setattr(command, "KubeClient", Client)
        return asked

    return install


def test_options_may_stand_before_or_behind_the_verb() -> None:
    for line in ("-n shop -o json --no-color status cart", "status cart -n shop -o json --no-color"):
        found = parse(line.split())
        assert (found.verb, found.name, found.namespace, found.output, found.no_color) == (
            *("status", "cart", "shop", "json"),
            True,
        )


def test_defaults() -> None:
    found = parse(["failover", "cart", "0"])
    assert (found.namespace, found.context, found.kubeconfig, found.output) == (None, None, None, "text")
    assert found.timeout == 60.0
    assert parse(["watch", "cart"]).timeout is None
    assert parse(["status"]).name is None


def test_plan_looks_for_the_operator_where_it_runs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    assert parse(["plan", "cart"]).operator_namespace == "cachecluster-system"
    monkeypatch.setenv("POD_NAMESPACE", "caches")
    assert parse(["plan", "cart"]).operator_namespace == "caches"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "VERB"),
        ("polish cart", "invalid choice"),
        ("plan", "NAME"),
        ("failover cart", "SHARD"),
        ("failover cart 0 --timeout 5parsecs", "write 90s, 10m or 1h"),
        ("status cart -o xml", "invalid choice"),
    ],
)
def test_what_is_not_understood_ends_with_2_and_a_hint(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(line.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


def test_a_picture_goes_to_the_output_and_ends_with_0(use: Callable[[Shelf], list[Any]]) -> None:
    asked = use(Shelf(body_of(formed()), Pod=pods_of(formed())))
    out = io.StringIO()
    assert main(["status", "cart", "-n", "shop", "--kubeconfig", "/k", "--context", "kind"], out) == 0
    assert out.getvalue().startswith("cart in shop: Valkey")
    assert asked == [(Credentials("/k", "kind"), "kubectl-cache")]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("CacheCluster", Unavailable("get CacheCluster shop/cart: refused"), "get CacheCluster shop/cart: refused"),
        ("CacheCluster", Rejected("get CacheCluster shop/cart: forbidden"), "get CacheCluster shop/cart: forbidden"),
        ("CacheCluster", NotFound("HTTP 404"), "this Kubernetes knows no CacheClusters: install cachecluster-operator"),
        ("patch", Rejected("patch CacheCluster shop/cart: forbidden"), "patch CacheCluster shop/cart: forbidden"),
        ("Node", Rejected("list Node: forbidden"), "Run it in the operator's pod: kubectl exec -n caches"),
    ],
)
def test_what_goes_wrong_is_one_line_on_stderr_and_ends_with_1(
    kind: str,
    error: Exception,
    message: str,
    use: Callable[[Shelf], list[Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shelf = Shelf(body_of(formed()))
    shelf.refuses[kind] = error  # type: ignore[assignment]
    use(shelf)
    verb = {"patch": ["restart", "cart"], "Node": ["plan", "cart", "--operator-namespace", "caches"]}
    assert main([*verb.get(kind, ["status", "cart"]), "-n", "shop"], io.StringIO()) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert message in told.err
    assert told.err.count("\n") == 1
    assert not told.out


KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
contexts:
  - {name: here, context: {cluster: a, user: a}}
  - {name: there, context: {cluster: a, user: a, namespace: shop}}
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {token: secret}}]
"""


def test_the_context_says_which_namespace_is_meant(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(KUBECONFIG)
    path = str(tmp_path / "config")
    assert Credentials(path).namespace() == "default"
    assert Credentials(path, "there").namespace() == "shop"


@pytest.mark.parametrize("content", [None, "", "{", "apiVersion: v1\nkind: Config\n"])
def test_an_unusable_kubeconfig_is_one_line_on_stderr(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    assert main(["status", "--kubeconfig", str(path)], io.StringIO()) == 1
    assert capsys.readouterr().err.startswith("error: no credentials for the Kubernetes API: ")


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "no_color", "environment", "colour"),
    [
        (Terminal(), False, {}, True),
        (Terminal(), False, {"NO_COLOR": ""}, True),
        (Terminal(), False, {"NO_COLOR": "1"}, False),
        (Terminal(), False, {"TERM": "dumb"}, False),
        (Terminal(), True, {}, False),
        (io.StringIO(), False, {}, False),
    ],
)
def test_colours_are_for_terminals_alone(
    out: io.StringIO, no_color: bool, environment: dict[str, str], colour: bool
) -> None:
    assert screen_for(out, "text", no_color=no_color, environment=environment).palette.colour is colour
