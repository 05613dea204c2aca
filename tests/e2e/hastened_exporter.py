"""The exporter where time goes faster: its rate of DNS questions is that of the default interval, so that a short round
asks as many.

    python -m tests.e2e.hastened_exporter FLAGS

With FROM_API in the environment, objects of a file count as those of an API server: what they name is there and can be
asked. Nothing else differs from `python -m exporter`.
"""

from __future__ import annotations

import os
import sys

from exporter.__main__ import main
from exporter.inventory import file
from exporter.model.cluster.inventory import InventoryOrigin
from exporter.plan import round_plan

ROUND, SHIPPED = 2.0, 30.0  # seconds: the interval in these tests, and by default
FROM_API = "HASTENED_EXPORTER_OBJECTS_FROM_API"


class Live:
    """The origin of what a file has."""

    FILE = InventoryOrigin.KUBERNETES


if __name__ == "__main__":
    round_plan.QUERIES *= SHIPPED / ROUND
    if FROM_API in os.environ:
        vars(file)["InventoryOrigin"] = Live
    sys.exit(main())
