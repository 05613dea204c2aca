"""`kubectl dualstack`: runs a command of the exporter in the pod that can answer it, which it finds by itself.

A file of its own: it needs Python, kubectl and the rights of whoever calls it, and nothing else of this package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

NAME = "kubectl-dualstack"
NAMESPACE = "dualstack-exporter"
BAD_INPUT = 2
LABELS = "app.kubernetes.io/name=dualstack-exporter,app.kubernetes.io/component="
# Of kubectl: handed on as they are. All take a value.
KUBECTL = ("context", "kubeconfig", "cluster", "user", "as", "as-group", "server", "token", "request-timeout")
POD_FLAGS = ("family", "layers", "output", "last", "fail_on")  # of the exporter's command, where they are given


class PluginError(Exception):
    """The command cannot be run. The message is one line; the exit status is 2."""


class _PluginParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PluginError(f"{message} (see kubectl dualstack --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status is that of the exporter's command, or 2 if it was not run."""
    try:
        return run(parser().parse_args(arguments))
    except PluginError as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The subcommands, each with the flags of kubectl."""
    shared = _PluginParser(add_help=False, argument_default=argparse.SUPPRESS)
    kubectl = shared.add_argument_group("kubectl")
    namespace = f"of the exporter, by default {NAMESPACE}"
    kubectl.add_argument("-n", "--namespace", help=namespace, default=NAMESPACE)
    for name in KUBECTL:
        kubectl.add_argument(f"--{name}", help=argparse.SUPPRESS)
    kubectl.description = f"also {', '.join(f'--{name}' for name in KUBECTL)}"
    top = _PluginParser(
        prog="kubectl dualstack", description="IPv4/IPv6 dual-stack health, told by the exporters in the cluster."
    )
    commands = top.add_subparsers(title="subcommands", metavar="COMMAND", dest="command", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=summary, parents=[shared], argument_default=argparse.SUPPRESS
        )

    check = add("check", "what is wrong and why: on a node, or in the cluster with a line for each node")
    check.add_argument("node", nargs="?", default="")
    check.add_argument("--last", action="store_true", help="the last report instead of new rounds")
    check.add_argument("--fail-on", choices=("info", "warning", "critical"))
    resolve = add("resolve", "what a name resolves to for a pod, with each C library")
    resolve.add_argument("what", metavar="NAME")
    probe = add("probe", "one probe from a pod, each step shown")
    probe.add_argument("what", metavar="TARGET", help="HOST:PORT, or a target of the exporter's configuration")
    probe.add_argument("--layers")
    for each in (resolve, probe):
        where = each.add_mutually_exclusive_group(required=True)
        where.add_argument("--pod", metavar="NAMESPACE/NAME", help="from inside this pod")
        where.add_argument("--node", help="from this node")
        each.add_argument("--family", choices=("any", "4", "6"))
    for each in (check, resolve):
        each.add_argument("--output", choices=("text", "json"))
    add("status", "the exporters, and the last report about the cluster")
    return top


def run(options: argparse.Namespace) -> int:
    """Find the pod and run the command in it."""
    kubectl = Kubectl(options)
    given = [f"--{name.replace('_', '-')}{'' if value is True else f'={value}'}" for name, value in _given(options)]
    if options.command == "status":
        sys.stdout.write("".join(f"{line}\n" for line in kubectl.exporters()))
        sys.stdout.flush()
        return kubectl.run_in(kubectl.cluster_exporter(), "check", "--last")
    if options.command == "check":
        if options.node:
            return kubectl.run_in(kubectl.node_exporter(options.node), "check", *given)
        everywhere = () if "--last" in given else ("--nodes=all",)
        return kubectl.run_in(kubectl.cluster_exporter(), "check", *everywhere, *given)
    node = options.node if "node" in options else kubectl.node_of(options.pod)
    place = () if "node" in options else (f"--pod={options.pod}",)
    return kubectl.run_in(kubectl.node_exporter(node), options.command, options.what, *place, *given)


def _given(options: argparse.Namespace) -> list[tuple[str, Any]]:
    return [(name, getattr(options, name)) for name in POD_FLAGS if name in options]


class Kubectl:
    """The user's kubectl, with the user's flags."""

    def __init__(self, options: argparse.Namespace) -> None:
        found = shutil.which("kubectl")
        if found is None:
            raise PluginError("kubectl is not in PATH")
        dests = {name: name.replace("-", "_") for name in KUBECTL}
        given = [f"--{name}={getattr(options, dest)}" for name, dest in dests.items() if dest in options]
        self._command = [found, *given]
        self._namespace = options.namespace

    def node_of(self, pod: str) -> str:
        """The node on which a pod runs."""
        namespace, slash, name = pod.partition("/")
        if not slash or not namespace or not name or "/" in name:
            raise PluginError(f"--pod={pod}: NAMESPACE/NAME is expected")
        found = self._get(namespace, "pod", name)
        phase = found.get("status", {}).get("phase", "Unknown")
        node = found.get("spec", {}).get("nodeName", "")
        if not node:
            raise PluginError(f"--pod={pod}: it is {phase} and on no node yet")
        if phase in {"Succeeded", "Failed"}:
            raise PluginError(f"--pod={pod}: it has ended ({phase})")
        return str(node)

    def node_exporter(self, node: str) -> str:
        """The exporter pod of that node."""
        found = self._pods("node", f"--field-selector=spec.nodeName={node}")
        if not found and not self._pods("node"):
            raise PluginError(f"no node exporter is in namespace {self._namespace}; name its namespace with -n")
        return self._usable(found, f"node exporter runs on {node}")

    def cluster_exporter(self) -> str:
        """The pod of the Deployment."""
        return self._usable(self._pods("cluster"), f"cluster exporter runs in namespace {self._namespace}")

    def exporters(self) -> list[str]:
        """One line for each kind, and one for each exporter that is not ready."""
        lines = []
        for component in ("node", "cluster"):
            pods = self._pods(component)
            ready = sum(1 for pod in pods if not _problem(pod))
            lines.append(f"{component} exporters: {ready} of {len(pods)} ready")
            bad = ((pod, problem) for pod in pods if (problem := _problem(pod)))
            lines += [
                f"  {_name(pod)} on {pod['spec'].get('nodeName') or 'no node'}: {problem}" for pod, problem in bad
            ]
        return lines

    def run_in(self, pod: str, *command: str) -> int:
        """Run the exporter's command in the pod; its exit status, or 2 if kubectl itself failed."""
        called = [*self._command, f"--namespace={self._namespace}", "exec", pod, "--container=exporter", "--"]
        ended = False
        with subprocess.Popen([*called, "dualstack-exporter", *command], stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
            for line in process.stderr or ():
                # kubectl says this of each status but 0; its own failures have status 1 as well.
                if line.startswith("command terminated with exit code"):
                    ended = True
                else:
                    sys.stderr.write(line)
        return process.returncode if ended or process.returncode == 0 else BAD_INPUT

    def _usable(self, pods: list[Any], wanted: str) -> str:
        """The pod in which a command can run; the newest, while one replaces another."""
        running = [pod for pod in pods if _runs(pod)]
        if not running:
            found = ", ".join(f"{_name(pod)} is {_problem(pod)}" for pod in pods)
            raise PluginError(f"no {wanted}{f': {found}' if found else ''}")
        return _name(max(running, key=lambda pod: (not _problem(pod), pod["metadata"]["creationTimestamp"])))

    def _pods(self, component: str, *flags: str) -> list[Any]:
        return list(self._get(self._namespace, "pods", f"--selector={LABELS}{component}", *flags)["items"])

    def _get(self, namespace: str, *what: str) -> Any:
        command = [*self._command, f"--namespace={namespace}", "get", *what, "--output=json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("See ")]
            raise PluginError(said[-1] if said else f"kubectl ended with status {done.returncode}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise PluginError(f"what kubectl printed is not JSON: {done.stdout[:80]!r}") from None


def _name(pod: Any) -> str:
    return str(pod["metadata"]["name"])


def _container(pod: Any) -> Any:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((each for each in statuses if each["name"] == "exporter"), {})


def _runs(pod: Any) -> bool:
    return "running" in _container(pod).get("state", {})


def _problem(pod: Any) -> str:
    """Why it is not ready, in Kubernetes' words; empty if it is."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    status = _container(pod)
    if _runs(pod):
        return "" if status.get("ready") else "not ready"
    reasons = (each["reason"] for each in status.get("state", {}).values() if "reason" in each)
    return next(reasons, str(pod.get("status", {}).get("phase", "Unknown")))


if __name__ == "__main__":
    sys.exit(main())
