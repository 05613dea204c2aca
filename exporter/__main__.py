"""Where the process begins. The broker is dispatched before anything else is imported: it must stay small."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the exit status."""
    if sys.argv[1:2] == ["broker"]:
        from exporter.broker.server.command import main as broker  # noqa: PLC0415 - the broker imports nothing else

        return broker(sys.argv[2:])
    from exporter.broker.server.syscalls import PR_SET_DUMPABLE, prctl  # noqa: PLC0415 - see above
    from exporter.cli.command import run  # noqa: PLC0415 - see above

    prctl(PR_SET_DUMPABLE, 0)  # before a token is read: no other process of this uid may take it from here

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
