"""Credentials and TLS for the API server, by the kubernetes package: a service account or a kubeconfig. An I/O rim.

The result is that package's REST client with everything loaded, keys included, so that it still works when files can no
longer be read.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from exporter.inventory.fetching import trust_as_go
from exporter.inventory.kubernetes.api_error import one_line
from exporter.inventory.kubernetes.package import (
    ConfigException,
    Configuration,
    RESTClientObject,
    kube_config,
    load_incluster_config,
)

LOAD = 30.0  # seconds for loading a kubeconfig: its exec plugin may use the network
Loader = Callable[[], Coroutine[Any, Any, RESTClientObject]]

# What the package raises for a kubeconfig that it cannot use: it does not check types.
_UNUSABLE = (
    ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError,
    yaml.YAMLError, aiohttp.ClientError,
)  # fmt: skip


class AccessError(Exception):
    """No way to an API server: no service account, or a kubeconfig that cannot be used. The message is one line."""


async def load_service_account() -> RESTClientObject:
    """The service account of the pod, at KUBERNETES_SERVICE_HOST. AccessError where there is none."""
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
        return _rest_client(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise AccessError(f"no service account can be used here: {one_line(error)}") from None


async def load_kubeconfig(path: str) -> RESTClientObject:
    """The current context of a kubeconfig: token, client certificate, exec plugin. AccessError if it cannot be used."""
    configuration = Configuration()
    before = _children()
    _check_readable(path)
    try:
        async with asyncio.timeout(LOAD):
            loaded = await kube_config.load_kube_config(path, client_configuration=configuration, persist_config=False)
        # The package logs why a plugin failed, and would continue without credentials.
        user = loaded._user  # noqa: SLF001 - the package offers no other way
        if user is not None and "exec" in user and not (configuration.api_key or configuration.cert_file):
            raise AccessError(f"{path}: its exec plugin gave neither a token nor a certificate")
        return _rest_client(configuration)
    except TimeoutError:
        # The package forgets a plugin that hangs; nothing else is started while a kubeconfig is loaded.
        for process in _children() - before:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        raise AccessError(f"{path}: its credentials did not come within {LOAD:g} s") from None
    except _UNUSABLE as error:
        raise AccessError(f"{path} is no kubeconfig that can be used: {one_line(error)}") from None
    finally:
        # Keys of the kubeconfig that the package wrote to files; they are loaded by now.
        kube_config._cleanup_temp_files()  # noqa: SLF001 - the package offers no other way


def _check_readable(path: str) -> None:
    """The package treats a missing file as an empty one."""
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise AccessError(f"{path} cannot be read: {error.strerror}") from None


def _children() -> frozenset[int]:
    """The processes that any thread of this one started; none where the kernel does not list them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, task.read_text().split()))
    return frozenset(found)


def _rest_client(configuration: Any) -> RESTClientObject:
    client = RESTClientObject(configuration)
    trust_as_go(client.ssl_context)
    return client
