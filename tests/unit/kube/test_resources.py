"""URL paths of the kinds that the operator uses."""

import pytest

from cachecluster.kube.resources import resource


@pytest.mark.parametrize(
    ("api_version", "kind", "arguments", "path"),
    [
        ("v1", "Pod", ("shop", "cart-0-0"), "/api/v1/namespaces/shop/pods/cart-0-0"),
        ("v1", "Pod", (None,), "/api/v1/pods"),
        ("v1", "Node", (None,), "/api/v1/nodes"),
        ("v1", "Node", ("ignored", "n1"), "/api/v1/nodes/n1"),
        ("apps/v1", "StatefulSet", ("shop",), "/apis/apps/v1/namespaces/shop/statefulsets"),
        (
            "cachecluster.dev/v1alpha1",
            "CacheCluster",
            ("shop", "cart", "status"),
            "/apis/cachecluster.dev/v1alpha1/namespaces/shop/cacheclusters/cart/status",
        ),
        ("v1", "Secret", ("shop", "../nodes"), "/api/v1/namespaces/shop/secrets/..%2Fnodes"),
    ],
)
def test_paths(api_version: str, kind: str, arguments: tuple[str, ...], path: str) -> None:
    assert resource(api_version, kind).path(*arguments) == path
