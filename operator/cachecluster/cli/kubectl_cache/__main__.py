"""``python -m cachecluster.cli.kubectl_cache`` is ``kubectl-cache``."""

import sys

from cachecluster.cli.kubectl_cache import main

sys.exit(main())
