"""Writes the generated files of the Helm chart, which cannot read files outside its directory.

python -m scripts.chart     writes them; scripts/chart sets up what that needs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from exporter.config.reference import format_schema

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy/helm/dualstack-exporter"
COPIED = {  # a file of the chart's files/: what stands in it, each as its own YAML document
    "access.yaml": ["deploy/base/access.yaml"],
    "node-lists.yaml": ["deploy/components/node-lists/access.yaml", "deploy/components/node-lists/kube-system.yaml"],
    "dns-configmaps.yaml": ["deploy/components/dns-configmaps/access.yaml"],
    "events.yaml": ["deploy/components/events/access.yaml"],
    "node-files.yaml": ["deploy/components/microk8s-files/node-files.yaml"],
    "openshift-constraints.yaml": ["deploy/overlays/openshift/constraints.yaml"],
    "openshift-dns.yaml": ["deploy/overlays/openshift/dns.yaml"],
    "prometheusrule.yaml": ["alerts/prometheusrule.yaml"],
    "prometheusrule-observe.yaml": ["alerts/observe/prometheusrule.yaml"],
    **{f"{name}.json": [f"grafana/{name}.json"] for name in ("cluster", "dns", "fleet", "node")},
}


def generated() -> Mapping[Path, str]:
    """The text of each generated file."""
    files = {
        CHART / "files" / name: "---\n".join((ROOT / source).read_text(encoding="utf-8") for source in sources)
        for name, sources in COPIED.items()
    }
    return {**files, CHART / "values.schema.json": _values_schema()}


def _values_schema() -> str:
    """The chart's schema as it is, with that of the configuration in it."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    config = json.loads(format_schema())
    schema["properties"]["config"] = {key: value for key, value in config.items() if key not in {"$schema", "title"}}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
