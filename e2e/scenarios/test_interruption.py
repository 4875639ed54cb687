"""The operator dies, again and again, at the worst times; a new one finds out where things stand."""

import random
import threading

from e2e import client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation, until_operator_ready

KILLS = 6


def test_operator_killed_again_and_again_during_formation(installation: Installation, here: str) -> None:
    kube = installation.kube
    cart = Cluster(kube, here, "cart")
    pause = random.Random(7)  # noqa: S311
    moment = threading.Event()
    cart.apply(small_spec(shards=3, replicas=1))
    for _ in range(KILLS):
        until_operator_ready(kube)
        moment.wait(pause.uniform(0.0, 2.0))
        installation.kill_operator()
    until_operator_ready(kube)
    cart.until_whole()
    cart.assert_spread()
    application = client.start(kube, installation.image, here, "cart")
    application.write(100, "first")
    views = application.ask("nodes")
    assert {len(view) for view in views.values()} == {6}, f"nodes disagree: {views}"
    assert_passwords_are_the_first(cart, application)


def assert_passwords_are_the_first(cart: Cluster, application: client.Client) -> None:
    """The system Secret was made once: the application's password in it is the one that works."""
    assert cart.secret("system")["data"]["application-password"] == cart.secret("auth")["data"]["password"]
    assert application.ask("ping") == "PONG"
