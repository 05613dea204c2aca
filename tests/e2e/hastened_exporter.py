"""The exporter where time goes faster: its rate of DNS questions is that of the default interval, so that a short round
asks as many.

    python -m tests.e2e.hastened_exporter FLAGS

Nothing else differs from `python -m exporter`.
"""

from __future__ import annotations

import sys

from exporter.__main__ import main
from exporter.plan import round_plan

ROUND, SHIPPED = 2.0, 30.0  # seconds: the interval in these tests, and by default

if __name__ == "__main__":
    round_plan.QUERIES *= SHIPPED / ROUND
    sys.exit(main())
