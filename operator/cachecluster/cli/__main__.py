"""``python -m cachecluster.cli`` is ``cachecluster-operator``."""

import sys

from cachecluster.cli.operator import main

sys.exit(main())
