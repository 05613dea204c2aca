"""Why something could not be known: the one closed set for causes, readers and kinds of objects. Pure."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a cause could not be checked, or a reader could not read; closed (docs/specification.md section 7)."""

    NOT_APPLICABLE = "not_applicable"
    SINGLE_STACK = "single_stack"
    NO_INVENTORY = "no_inventory"
    STALE_INVENTORY = "stale_inventory"
    NOT_ALLOWED = "not_allowed"
    NO_PERMISSION = "no_permission"
    LSM = "lsm"
    API_UNAVAILABLE = "api_unavailable"
    NO_VANTAGE = "no_vantage"
    NO_TARGET = "no_target"
    NO_PEER = "no_peer"
    NO_PODS = "no_pods"
    NO_REFERENCE = "no_reference"
    POLICY = "policy"
    TOO_FEW_SAMPLES = "too_few_samples"
    READER_FAILED = "reader_failed"
    KERNEL = "kernel"
