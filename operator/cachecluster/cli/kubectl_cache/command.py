"""The command line of ``kubectl cache``."""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, TextIO

from cachecluster.cli.kubectl_cache.failovers import failovers
from cachecluster.cli.kubectl_cache.plan import plan
from cachecluster.cli.kubectl_cache.requests import failover, restart
from cachecluster.cli.kubectl_cache.screen import Screen, screen_for
from cachecluster.cli.kubectl_cache.session import Problem, Session
from cachecluster.cli.kubectl_cache.status import status
from cachecluster.cli.kubectl_cache.watch import watch
from cachecluster.engines.valkey import ValkeyConnector
from cachecluster.kube.api import KubeError
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials

AGENT: Final = "kubectl-cache"
"""Who has written an annotation, as the API server keeps it."""
OPERATOR_NAMESPACE: Final = "cachecluster-system"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 not done (stderr says why), 130 interrupted."""
    found = parse(arguments)
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries complain about, our errors say better
    screen = screen_for(out or sys.stdout, found.output, no_color=found.no_color)
    try:
        return asyncio.run(_run(found, screen))
    except (Problem, KubeError) as error:
        screen.close()
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        screen.close()
        return 130
    except BrokenPipeError:
        # Whoever read has seen enough; without this the interpreter complains again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; ends the process with a message and status 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="kubectl cache",
        description="Shows cache clusters, what their operator does and would do, and asks it for something.",
        parents=[_common(defaults=True)],
    )
    parser.add_argument("--version", action="version", version=version("cachecluster-operator"))
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, help_: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.", parents=[_common(defaults=False)]
        )

    one = verb(
        "status", "show a cluster, its shards and what is not as it should be; without NAME all of the namespace"
    )
    one.add_argument("name", metavar="NAME", nargs="?")
    one = verb(
        "failovers", "show which primaries were lost lately and how long each step to the next took; without NAME all"
    )
    one.add_argument("name", metavar="NAME", nargs="?")
    one = verb("plan", "show what the operator would do now and why, without doing it")
    one.add_argument("name", metavar="NAME")
    one.add_argument(
        "--operator-namespace",
        default=os.environ.get("POD_NAMESPACE") or OPERATOR_NAMESPACE,
        help=f"where the operator runs (default: $POD_NAMESPACE, else {OPERATOR_NAMESPACE})",
    )
    one = verb("failover", "ask the primary of a shard to hand over to a replica, and wait until it has")
    one.add_argument("name", metavar="NAME")
    one.add_argument("shard", metavar="SHARD", help="number or name of the shard: 0, cart-0")
    one.add_argument("--timeout", type=duration, default=60.0, help="give up and take the request back (default: 60s)")
    one = verb("restart", "ask for every pod to be replaced, one at a time")
    one.add_argument("name", metavar="NAME")
    one = verb("watch", "follow a cluster until it is ready and nothing is left to do")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--forever", action="store_true", help="go on when it has arrived")
    one.add_argument("--timeout", type=duration, help="give up after so long: 90s, 10m, 1h (default: never)")
    return parser.parse_args(arguments)


def _common(*, defaults: bool) -> argparse.ArgumentParser:
    """Options that may stand before or behind the verb. The verb's own parser has no defaults for them: they would
    override what was given before it.
    """

    def default(value: object) -> object:
        return value if defaults else argparse.SUPPRESS

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-n", "--namespace", default=default(None), help="default: that of the context")
    common.add_argument("--context", default=default(None), help="context of the kubeconfig (default: its current one)")
    common.add_argument("--kubeconfig", default=default(None), help="default: $KUBECONFIG or ~/.kube/config")
    forms = ("text", "json", "yaml")
    common.add_argument("-o", "--output", choices=forms, default=default("text"), help="default: text")
    common.add_argument("--no-color", action="store_true", default=default(False), help="also by $NO_COLOR")
    return common


def duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m`` or ``1h``."""
    found = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 90s, 10m or 1h")
    return float(found[1]) * _UNITS[found[2]]


async def _run(found: argparse.Namespace, screen: Screen) -> int:
    credentials = Credentials(found.kubeconfig, found.context)
    namespace = found.namespace or credentials.namespace()
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(KubeClient(credentials, agent=AGENT))
        operator_namespace = getattr(found, "operator_namespace", OPERATOR_NAMESPACE)
        session = Session(kube, namespace, screen, operator_namespace, credentials.in_cluster)
        return await _dispatch(found, session)


async def _dispatch(found: argparse.Namespace, session: Session) -> int:
    match found.verb:
        case "status":
            return await status(session, found.name)
        case "failovers":
            return await failovers(session, found.name)
        case "plan":
            return await plan(session, found.name, ValkeyConnector())
        case "failover":
            return await failover(session, found.name, found.shard, found.timeout)
        case "restart":
            return await restart(session, found.name)
        case _:
            return await watch(session, found.name, forever=found.forever, seconds=found.timeout)
