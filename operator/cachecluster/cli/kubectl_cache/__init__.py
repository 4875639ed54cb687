"""``kubectl cache``: what people ask of cache clusters, from their own machine or in the operator's pod.

Reads what the API server tells, and writes annotations; only ``plan`` talks to engine nodes, and only to look.
"""

from cachecluster.cli.kubectl_cache.command import main

__all__ = ["main"]
