"""Stands for kubectl: `get` of the pods of $FAKE_CLUSTER, a JSON file, and `exec`, which notes what it was told to run.

Flags, messages and statuses are those of kubectl 1.32.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

VALUED = {
    "--namespace", "--selector", "--field-selector", "--output", "--container", "--context", "--kubeconfig",
    "--cluster", "--user", "--as", "--as-group", "--server", "--token", "--request-timeout",
}  # fmt: skip


def fail(text: str, status: int = 1) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    raise SystemExit(status)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    world = Path(os.environ["FAKE_CLUSTER"])
    cluster = json.loads(world.read_text())
    arguments, flags, words = sys.argv[1:], dict[str, str](), list[str]()
    split = arguments.index("--") if "--" in arguments else len(arguments)
    given, run = arguments[:split], arguments[split + 1 :]
    for each in given:
        name, equals, value = each.partition("=")
        if each.startswith("-") and (name not in VALUED or not equals):
            fail(f"Error: unknown flag: {name}\nSee 'kubectl {words[0] if words else ''} --help' for usage.")
        if each.startswith("-"):
            flags[name] = value
        else:
            words.append(each)
    with world.with_name("calls").open("a") as calls:
        calls.write(json.dumps([flags, words, run]) + "\n")
    if "error" in cluster:
        fail(cluster["error"])
    if flags.get("--context", "here") != "here":
        fail(f'error: context "{flags["--context"]}" does not exist')
    pods = [pod for pod in cluster["pods"] if pod["metadata"]["namespace"] == flags["--namespace"]]
    if words[0] == "get":
        return get(pods, words[1:], flags)
    return execute(cluster, pods, words[1:], flags, run)


def get(pods: list[Any], what: list[str], flags: dict[str, str]) -> int:
    assert flags["--output"] == "json"
    if len(what) == 2:
        say(json.dumps(named(pods, what[1])))
        return 0
    assert what == ["pods"]
    wanted = dict(each.split("=") for each in flags["--selector"].split(","))
    node = flags.get("--field-selector", "").removeprefix("spec.nodeName=")
    found = [
        pod
        for pod in pods
        if wanted.items() <= pod["metadata"]["labels"].items() and node in ("", pod["spec"].get("nodeName"))
    ]
    say(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))
    return 0


def named(pods: list[Any], name: str) -> Any:
    return next((p for p in pods if p["metadata"]["name"] == name), None) or fail(
        f'Error from server (NotFound): pods "{name}" not found'
    )


def execute(cluster: Any, pods: list[Any], what: list[str], flags: dict[str, str], run: list[str]) -> int:
    pod = named(pods, what[0])
    statuses = {each["name"]: each["state"] for each in pod["status"].get("containerStatuses", ())}
    if "running" not in statuses.get(flags["--container"], ()):
        missing = f'container not found ("{flags["--container"]}")'
        fail(f"error: Internal error occurred: unable to upgrade connection: {missing}")
    if cluster.get("forbidden"):
        why = 'User "me" cannot create resource "pods/exec"'
        fail(f'Error from server (Forbidden): pods "{what[0]}" is forbidden: {why}')
    say(f"{what[0]}: {' '.join(run)}")
    status = int(cluster.get("status", 0))
    if status:
        fail(f"of the command\ncommand terminated with exit code {status}", status)
    return 0


if __name__ == "__main__":
    sys.exit(main())
