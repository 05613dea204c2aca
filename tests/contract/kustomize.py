"""The part of kustomize that deploy/ uses, so that overlays are checked on machines without kubectl.

Resources, components, strategic merge patches (with `$patch: delete`), images, labels and ConfigMaps made of files;
anything else in a kustomization is an error here. Where kubectl is installed, a test compares the two.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

KEYS = {
    "apiVersion", "kind", "resources", "components", "patches", "images", "labels", "namespace",
    "configMapGenerator", "generatorOptions",
}  # fmt: skip
MERGED_BY = {  # lists that a strategic merge patch merges by a key; every other list is replaced
    "containers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",  # of a container; no patch touches those of a Service
    "volumeMounts": "mountPath",
}


def read_objects(path: Path) -> list[Object]:
    """Every object of a file of YAML documents."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def render(directory: Path) -> list[Object]:
    """What `kubectl kustomize DIRECTORY` gives, in the order of the sources."""
    return _apply(directory, [])


def identity(document: Object) -> tuple[str, str, str, str]:
    """Group and version, kind, namespace and name: one object of the cluster."""
    metadata = document["metadata"]
    return document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"]


def _apply(directory: Path, objects: list[Object]) -> list[Object]:
    settings = yaml.safe_load((directory / "kustomization.yaml").read_text())
    unknown = set(settings) - KEYS
    assert not unknown, f"{directory}: {unknown} is beyond what these tests understand"
    for resource in settings.get("resources", ()):
        path = (directory / resource).resolve()
        objects = objects + (render(path) if path.is_dir() else read_objects(path))
    objects = objects + [_config_map(directory, entry, settings) for entry in settings.get("configMapGenerator", ())]
    for component in settings.get("components", ()):
        objects = _apply((directory / component).resolve(), objects)
    for patch in settings.get("patches", ()):
        objects = _patch(objects, _read_patch(directory, patch))
    objects = copy.deepcopy(objects)
    for image in settings.get("images", ()):
        for container in (c for o in objects for c in containers(o) if c["image"].partition(":")[0] == image["name"]):
            container["image"] = f"{image['newName']}:{image['newTag']}"
    for label in settings.get("labels", ()):
        assert set(label) == {"pairs"}
        for document in objects:
            document["metadata"].setdefault("labels", {}).update(label["pairs"])
    return objects


def _config_map(directory: Path, entry: Object, settings: Object) -> Object:
    """A ConfigMap of files, under its own name: hash suffixes are not understood here."""
    options = dict(settings["generatorOptions"])
    assert options.pop("disableNameSuffixHash") is True
    assert set(entry) == {"name", "files"}
    metadata = {"name": entry["name"], "namespace": settings["namespace"], **options}
    data = {name: (directory / name).read_text() for name in entry["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _read_patch(directory: Path, entry: Object) -> Object:
    """The one object that a patch is; one a patch, because kustomize 5.5 fails on several deletions in one."""
    assert set(entry) <= {"path", "patch", "target"}
    text = (directory / entry["path"]).read_text() if "path" in entry else entry["patch"]
    (patch,) = yaml.safe_load_all(text)
    return dict(patch)


def _patch(objects: list[Object], patch: Object) -> list[Object]:
    assert identity(patch) in {identity(o) for o in objects}, f"nothing to patch: {identity(patch)}"
    if patch.get("$patch") == "delete":
        return [o for o in objects if identity(o) != identity(patch)]
    return [_merge(o, patch) if identity(o) == identity(patch) else o for o in objects]


def _merge(old: Object, new: Object) -> Object:
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            merged[key] = _merge(old[key], value)
        elif isinstance(value, list) and key in MERGED_BY:
            merged[key] = _merge_list(old.get(key, []), value, MERGED_BY[key])
        else:
            merged[key] = value
    return merged


def _merge_list(old: list[Object], new: list[Object], key: str) -> list[Object]:
    patches = {entry[key]: entry for entry in new}
    kept = [_merge(entry, patches.pop(entry[key])) if entry[key] in patches else entry for entry in old]
    return kept + list(patches.values())


def containers(document: Object) -> list[Object]:
    """The containers of a workload, init containers included; none for other kinds."""
    spec = document.get("spec", {}).get("template", {}).get("spec", {})
    return [*spec.get("initContainers", ()), *spec.get("containers", ())]


def the(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = (o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)
    return found


def pod_specs(objects: list[Object]) -> dict[str, Any]:
    """The pod template of each workload by its name."""
    return {o["metadata"]["name"]: o["spec"]["template"] for o in objects if "template" in o.get("spec", {})}


def the_container(template: Any, name: str) -> Any:
    """The container of that name in a pod template."""
    (found,) = (c for c in template["spec"]["containers"] if c["name"] == name)
    return found
