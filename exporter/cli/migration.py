"""`migration`: what stands between this cluster and dual-stack, in order (docs/specification.md section 2)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from exporter.cli.context import CommandContext, run_in_context
from exporter.cli.remote import collect_nodes
from exporter.daemon.options import CommandError, Options
from exporter.migration.plan import plan
from exporter.migration.step import Migration
from exporter.migration.view import BOTH, NodeFindings
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import Came, InventoryOrigin
from exporter.model.family import Family
from exporter.report.document import Document
from exporter.report.migration import document, markdown, text
from exporter.report.text import Style


def migration(options: Options) -> int:
    """Print it; 0 where nothing is missing, 1 where something is, 2 where that could not be seen."""
    config = replace(options.load(), role=Role.CLUSTER)
    alone = options.to == "ipv6" or (not options.to and config.families == (Family.V6,))
    goal = frozenset({Family.V6}) if alone else BOTH

    async def look(context: CommandContext) -> Migration:
        inventory = context.source.current()
        if inventory.source is InventoryOrigin.NONE:
            raise CommandError("migration needs a cluster: --inventory.file=F, a kubeconfig or a service account")
        if inventory.came is Came.NOTHING:
            raise CommandError(f"the inventory cannot be read: {inventory.problem or 'no data was received'}")
        found = NodeFindings()
        if options.nodes == "all":
            found = on_nodes(*await collect_nodes(inventory, ""))
        return plan(inventory, goal, found)

    made = run_in_context(options, config, look, local=False)
    if options.output == "json":
        sys.stdout.write(json.dumps(document(made), indent=1) + "\n")
    else:
        sys.stdout.write(markdown(made) if options.output == "markdown" else text(made, Style.of(sys.stdout)))
    sys.stdout.flush()
    return made.exit_code


def on_nodes(documents: Sequence[Document], missing: Iterable[str]) -> NodeFindings:
    """What the reports of node exporters show together. A cause was checked where every node checked it."""
    nodes = [each for each in documents if each.role != Role.CLUSTER]
    found: dict[str, tuple[str, ...]] = {}
    for each in nodes:
        for cause in {entry.cause for entry in each.causes}:
            found[cause] = (*found.get(cause, ()), each.node)
    if not nodes or any(missing):
        return NodeFindings(found)
    unchecked = {cause for each in nodes for cause, _ in each.unchecked}
    return NodeFindings(found, frozenset(Cause) - unchecked)
