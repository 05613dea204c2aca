"""Rules of scope dns: whether nameservers answer, and whether their answers can be right. Pure."""

from __future__ import annotations

from exporter.diagnosis.rules.dns import losses, searchlist, servers, service_records
from exporter.diagnosis.rules.judging import rules_of

DNS_RULES = rules_of(servers, losses, searchlist, service_records)
