"""`python -m exporter.broker`: the broker alone, without importing anything of the exporter. The exporter starts its own like this."""

import sys

from exporter.broker.server.command import main

sys.exit(main(sys.argv[1:]))
