"""Rules of scope path: whether dials over each family pass, and what fails them. Pure."""

from __future__ import annotations

from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.path import path

PATH_RULES = rules_of(path)
