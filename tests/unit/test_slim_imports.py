"""What the exporter leaves unloaded of the packages it uses, against the locked versions; and that nothing else
changes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

UNUSED = ("requests", "requests_oauthlib", "oauthlib", "websocket", "urllib3", "pydantic", "dateutil", "pyroute2")
PARTS = ("client.configuration", "client.rest", "config.kube_config", "config.incluster_config")


def fresh(code: str) -> Any:
    """What a new interpreter prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", ["exporter.daemon.launch", "exporter.daemon.api_source", "exporter.cli.command"])
def test_what_is_not_used_is_not_loaded(module: str) -> None:
    loaded = fresh(f"import {module}, json, sys; print(json.dumps([*sys.modules]))")
    assert not {name.partition(".")[0] for name in loaded} & set(UNUSED)
    assert not [name for name in loaded if name.startswith("kubernetes.client")]


def test_the_broker_loads_next_to_nothing() -> None:
    loaded = fresh("import exporter.broker.server.command, json, sys; print(json.dumps([*sys.modules]))")
    assert not set(loaded) & {"asyncio", "ssl", "logging", "argparse", "subprocess", "threading", "email"}
    assert not [name for name in loaded if name.startswith("exporter.") and not name.startswith("exporter.broker")]


def test_the_whole_package_has_the_same_classes_before_and_after() -> None:
    same = (
        "[package.Configuration is kubernetes.aio.client.Configuration,"
        " package.RESTClientObject is rest.RESTClientObject,"
        " package.load_incluster_config is kubernetes.aio.config.load_incluster_config,"
        " package.ConfigException is kubernetes.aio.config.ConfigException,"
        " package.kube_config.load_kube_config is kubernetes.aio.config.load_kube_config,"
        " package.kube_config is kube_config]"
    )
    ours = "import exporter.inventory.kubernetes.package as package"
    whole = (
        "import kubernetes.aio; from kubernetes.aio.client import rest; from kubernetes.aio.config import kube_config"
    )
    for first, second in ((ours, whole), (whole, ours)):
        assert fresh(f"import json; {first}; {second}; print(json.dumps({same}))") == [True] * 6


@pytest.mark.parametrize("part", PARTS)
def test_modules_are_as_through_the_normal_import(part: str) -> None:
    """Their names, and the parameters of the functions."""
    folder, _, name = part.rpartition(".")
    told = (
        f"from kubernetes.aio.{folder} import {name} as part\n"
        "import inspect, json\n"
        "def about(each):\n"
        "    return [*inspect.signature(each).parameters] if inspect.isfunction(each) else type(each).__name__\n"
        "shown = sorted(set(vars(part)) - {'ApiClient', '__builtins__'})\n"
        "print(json.dumps([[name, about(vars(part)[name])] for name in shown]))"
    )
    assert fresh(f"import exporter.inventory.kubernetes.package\n{told}") == fresh(told)


def test_a_client_can_still_be_made_as_the_package_does() -> None:
    made = (
        "from exporter.inventory.kubernetes.package import Configuration, kube_config; import json\n"
        "client = kube_config.ApiClient(configuration=Configuration(host='http://h'))\n"
        "print(json.dumps([type(client).__module__, client.configuration.host]))"
    )
    assert fresh(made) == ["kubernetes.aio.client.api_client", "http://h"]
