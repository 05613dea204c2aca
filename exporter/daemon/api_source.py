"""Opens the Kubernetes API as a source, with the digest where one is configured. Only imported then: it is large."""

from __future__ import annotations

import asyncio
import math
import os
from functools import partial

from exporter.config.schema import Config
from exporter.digest.service_env_resolver import ServiceEnvResolver, list_endpoints
from exporter.digest.source import DigestClient, DigestedSource
from exporter.inventory.file import InventoryError
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import AccessError, Loader, load_kubeconfig, load_service_account
from exporter.inventory.kubernetes.source import EVERY, KubernetesSource
from exporter.inventory.kubernetes.watched_resources import watched_resources
from exporter.model.cause import Role


def open_kubernetes(config: Config, *, once: bool = False) -> KubernetesSource | DigestedSource:
    """The configured source with its credentials loaded, while root's files can still be read.

    `once`: for a command that ends within seconds, so that the digest is fetched every second. Raises InventoryError
    where there is no usable service account or kubeconfig.
    """
    path = config.inventory.kubeconfig
    loader: Loader = partial(load_kubeconfig, path) if path else load_service_account
    try:
        client = asyncio.run(loader())
    except AccessError as error:
        raise InventoryError(str(error)) from None
    digested = config.role is Role.NODE and bool(config.digest.url)
    watched = watched_resources(config.role, config.node_name, digest=digested)
    api = ApiServer(client, loader)
    node = "" if config.role is Role.CLUSTER else config.node_name
    source = KubernetesSource(api, watched, node=node, corefiles=config.role is not Role.NODE)
    if not digested:
        return source
    resolver = ServiceEnvResolver(os.environ, endpoints=partial(list_endpoints, api))
    if once:
        return DigestedSource(source, DigestClient(config.digest.url, every=EVERY, at_most=math.inf, resolver=resolver))
    return DigestedSource(source, DigestClient(config.digest.url, resolver=resolver))
