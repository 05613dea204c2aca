"""`python -m exporter.broker`: how the exporter starts its own broker, which imports nothing of the exporter."""

import sys

from exporter.broker.server.command import main

sys.exit(main(sys.argv[1:]))
