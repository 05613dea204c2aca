"""What this program uses of the kubernetes package, imported without the rest: 3 MiB instead of 21.

`import kubernetes` loads the synchronous client with requests, oauthlib and websocket, and the asyncio client's
ApiClient loads pydantic. Neither is used: the configuration and the REST client below it are. So the packages on the
way to these modules are imported without running their own code. Afterwards nothing of that is left: whoever imports
kubernetes later gets all of it, with the same classes. Tests hold this against the locked version.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


@contextmanager
def _bare(*names: str) -> Iterator[list[ModuleType]]:
    """The packages of these names, the outer ones first, whose own code is not run. Those loaded before stay."""
    made = []
    try:
        for name in (name for name in names if name not in sys.modules):
            spec = find_spec(name)
            if spec is None:
                raise ModuleNotFoundError(name)
            made.append(module_from_spec(spec))
            sys.modules[name] = made[-1]
        yield made
    finally:
        for module in made:
            del sys.modules[module.__name__]


def _api_client(*arguments: Any, **options: Any) -> Any:
    """What the package's own `new_client_from_config` would make; nothing here calls it."""
    return import_module("kubernetes.aio.client.api_client").ApiClient(*arguments, **options)


with _bare("kubernetes", "kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.utils") as _packages:
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject

    for _package in _packages:
        if _package.__name__ == "kubernetes.aio.client":
            vars(_package).update(Configuration=Configuration, ApiClient=_api_client)
    from kubernetes.aio.config import kube_config
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import load_incluster_config

__all__ = ["ConfigException", "Configuration", "RESTClientObject", "kube_config", "load_incluster_config"]
