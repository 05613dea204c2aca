"""The status page in a real browser: on a phone nothing is wider than the screen, and every result keeps its name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from exporter.model.cause import Cause
from exporter.model.dial import dials_of
from exporter.model.probe import Layer, Outcome
from exporter.report.healed import HealedDay
from exporter.web.page.document import page
from tests.e2e.browser import Browser
from tests.unit import sample_probes
from tests.unit.sample import bad_day, blind, migration_day, own, quiet_day
from tests.unit.sample_probes import NOW, V6

pytestmark = pytest.mark.real

PHONE, DESK = 390, 1100
HEALED = HealedDay(since=NOW - 9_000).after(bad_day(), replace(bad_day(), causes=(), checked=frozenset(Cause)))
FAILED = replace(own(), reload_successful=False, reload_problem=f"/etc/{'long' * 60}.yaml: targets[0].nme: unknown key")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium")
    with Browser() as running:
        yield running


def long_names() -> str:
    """A page whose names are as long as Kubernetes allows."""
    pod = sample_probes.pod(1, "n" * 63, "p" * 253)
    target = replace(sample_probes.PYPI, name="t" * 63)
    kept = tuple(sample_probes.seen(pod, target, layer, V6, Outcome.TIMEOUT, detail="d" * 200) for layer in (*Layer,))
    return page(
        replace(bad_day(), snapshot=replace(bad_day().snapshot, last=dials_of(kept))), FAILED, now=NOW, healed=HEALED
    )


PAGES = {
    "bad": page(bad_day(), FAILED, now=NOW, healed=HEALED),
    "quiet": page(quiet_day(), own(), now=NOW, healed=HEALED),
    "blind": page(blind(), own(), now=NOW),
    "cluster": page(migration_day(), own(), now=NOW),
    "before the first round": page(None, FAILED, now=NOW),
    "long names": long_names(),
}


def test_on_a_desk_the_verdicts_share_one_line_and_what_they_rest_on_is_below(browser: Browser) -> None:
    because = ("ServiceCIDR kubernetes has fd00:10:96::/112",)
    families = {family: replace(each, evidence=because) for family, each in bad_day().families.items()}
    browser.open(page(replace(bad_day(), families=families), own(), now=NOW), width=DESK)

    def boxes(selector: str) -> list[dict[str, float]]:
        found = f"[...document.querySelectorAll('{selector}')]"
        return [dict(each) for each in browser.value(f"{found}.map(each => each.getBoundingClientRect().toJSON())")]

    six, four = boxes(".family")
    card = boxes(".card")[0]
    assert (six["left"], six["top"], four["right"]) == (card["left"], four["top"], card["right"])
    notes = boxes("[aria-label=Families] > p")
    assert len(notes) == len(families)
    assert all((note["left"], note["right"]) == (six["left"], four["right"]) for note in notes)
    assert notes[0]["top"] >= six["bottom"]


@pytest.mark.parametrize("html", PAGES.values(), ids=PAGES)
def test_on_a_phone_the_page_does_not_scroll_sideways(browser: Browser, html: str) -> None:
    browser.open(html, width=PHONE)
    browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.value("document.documentElement.scrollWidth") == PHONE
    # What may be wider than the screen scrolls in a box of its own.
    wider = "each => !each.closest('.scroll') && each.getBoundingClientRect().right > innerWidth + 1"
    assert browser.value(f"[...document.querySelectorAll('body *')].filter({wider}).map(each => each.outerHTML)") == []


def test_on_a_phone_the_matrix_is_stacked_and_each_result_names_its_family_and_layer(browser: Browser) -> None:
    browser.open(PAGES["bad"], width=PHONE)
    assert browser.value("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.matrix').parentElement)")
    assert browser.value("getComputedStyle(document.querySelector('.matrix thead')).display") == "none"
    first = "document.querySelector('.matrix td')"
    assert browser.value(f"{first}.getAttribute('data-of')") == "IPv6 icmp"
    assert browser.value(f"getComputedStyle({first}, '::before').content") == '"IPv6 icmp "'


def test_on_a_desk_the_matrix_is_a_table_with_a_head_and_fits(browser: Browser) -> None:
    browser.open(PAGES["bad"], width=DESK)
    assert browser.value("getComputedStyle(document.querySelector('.matrix thead')).display") != "none"
    assert browser.value("getComputedStyle(document.querySelector('.matrix td'), '::before').content") == "none"
    assert browser.value("document.documentElement.scrollWidth") == DESK


def test_the_page_follows_the_colour_scheme(browser: Browser) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    shown = []
    for dark in (False, True):
        browser.open(PAGES["bad"], width=DESK, dark=dark)
        shown.append(browser.value(colour))
    assert shown == ["rgb(245, 246, 248)", "rgb(14, 17, 22)"]
