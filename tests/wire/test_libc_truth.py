"""The resolver prediction against the C libraries of this machine, on fresh random worlds."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

import pytest

from exporter.libc.resolver import Libc, predict
from tests.conf_worlds import SERVERS as CONF_SERVERS
from tests.conf_worlds import ConfWorld, draw_conf
from tests.damaged_worlds import DamagedWorld, draw_damaged
from tests.race_worlds import RaceWorld, every_race
from tests.worlds import World, address, draw

HERE = Path(__file__).parent
PROGRAM = HERE.parent / "data" / "resolver" / "getaddrinfo.c"
SERVERS = tuple(address(text) for text in ("127.0.53.1", "127.0.53.2", "127.0.53.3", "fd00:53::1"))
LISTEN = tuple(dict.fromkeys((*map(str, SERVERS), *CONF_SERVERS)))
CLOSED = frozenset({address("127.0.53.9")})
WORLDS = int(os.environ.get("LIBC_WORLDS", "150"))
CONF_WORLDS = int(os.environ.get("CONF_WORLDS", "250"))
DAMAGED_WORLDS, DAMAGED_SEED = int(os.environ.get("DAMAGED_WORLDS", "200")), 1304
LIMIT, EACH = 240, 0.3  # seconds for all worlds of one libc, and more for each
AnyWorld: TypeAlias = World | DamagedWorld | ConfWorld | RaceWorld
CODES = {0: "OK", -2: "EAI_NONAME", -3: "EAI_AGAIN", -4: "EAI_FAIL", -5: "EAI_NODATA", -9: "EAI_ADDRFAMILY"}

pytestmark = pytest.mark.real


def compile_program(compiler: list[str], folder: Path) -> Path:
    program = folder / "getaddrinfo"
    subprocess.run([*compiler, "-O1", "-Wall", "-Werror", "-o", str(program), str(PROGRAM)], check=True)
    return program


def musl_libc(program: Path) -> Libc:
    """Which musl the program runs on, from the loader it names, which says its version when run."""
    loader = re.search(rb"/[\w./-]*ld-musl-[\w.-]+", program.read_bytes())
    assert loader is not None, "the program does not name a musl loader"
    said = subprocess.run([loader.group().decode()], check=False, capture_output=True, text=True).stderr
    version = re.search(r"Version (\d+)\.(\d+)\.(\d+)", said)
    assert version is not None, said
    return Libc.MUSL if tuple(map(int, version.groups())) >= (1, 2, 4) else Libc.MUSL_1_2_3


def ask_libc(program: Path, worlds: Sequence[AnyWorld]) -> list[tuple[str, list[str], float]]:
    """What the program got in each world: code, sorted addresses, seconds."""
    work = {
        "addresses": [*LISTEN, *map(str, CLOSED)],
        "listen": LISTEN,
        "script": [line for world in worlds for line in world.script()],
        "runs": [
            {"resolv_conf": world.resolv_conf(), "program": [str(program), world.request, world.name]}
            for world in worlds
        ],
    }
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    lab = subprocess.run(
        [*namespaces, sys.executable, str(HERE / "libc_lab.py")],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        timeout=LIMIT + EACH * len(worlds),
        check=False,
    )
    assert lab.returncode == 0, lab.stderr
    return [parse(output) for output in json.loads(lab.stdout)]


def parse(output: str) -> tuple[str, list[str], float]:
    first, *found = output.splitlines()
    code, seconds = first.split()
    return CODES[int(code)], sorted({str(ip_address(text)) for text in found}), float(seconds)


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"], ids=["glibc", "musl"])
def libc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Libc, Path]:
    """A C library of this machine, and a program that resolves through it."""
    program = compile_program([request.param], tmp_path_factory.mktemp("libc"))
    return Libc.GLIBC if request.param == "gcc" else musl_libc(program), program


def seed_of(given: str) -> int:
    return int(os.environ.get(given) or random.SystemRandom().randrange(2**32))


def test_prediction_equals_what_the_real_libc_returns(libc: tuple[Libc, Path]) -> None:
    seed = seed_of("LIBC_SEED")
    rng = random.Random(seed)
    compare(*libc, [draw(rng, index, SERVERS, CLOSED) for index in range(WORLDS)], f"LIBC_SEED={seed}")


def test_prediction_equals_the_real_libc_on_damaged_replies(libc: tuple[Libc, Path]) -> None:
    rng = random.Random(DAMAGED_SEED)
    compare(*libc, [draw_damaged(rng, index, SERVERS[0]) for index in range(DAMAGED_WORLDS)], "")


def test_prediction_equals_the_real_libc_on_files_written_in_any_way(libc: tuple[Libc, Path]) -> None:
    seed = seed_of("CONF_SEED")
    rng = random.Random(seed)
    compare(*libc, [draw_conf(rng, index) for index in range(CONF_WORLDS)], f"CONF_SEED={seed}")


def test_prediction_equals_the_real_libc_where_one_of_two_questions_is_lost(libc: tuple[Libc, Path]) -> None:
    compare(*libc, list(every_race(SERVERS[0])), "")


def compare(libc: Libc, program: Path, worlds: Sequence[AnyWorld], seed: str) -> None:
    # A world is asked again only where it differs: a stalled machine passes, a wrong model does not.
    wrong = disagreements(libc, worlds, ask_libc(program, worlds))
    for _ in range(3):
        left = [world for world, _ in wrong]
        wrong = disagreements(libc, left, ask_libc(program, left)) if left else []

    assert not wrong, f"{seed}: {len(wrong)} of {len(worlds)}\n" + "\n".join(text for _, text in wrong[:5])


def disagreements(
    libc: Libc, worlds: Sequence[AnyWorld], truths: list[tuple[str, list[str], float]]
) -> list[tuple[AnyWorld, str]]:
    wrong: list[tuple[AnyWorld, str]] = []
    for world, (code, found, seconds) in zip(worlds, truths, strict=True):
        prediction = predict(libc, world.name, world.conf, world.answers(libc), request=world.request)
        assert prediction is not None
        same_time = abs(prediction.seconds - seconds) < 0.9  # a wait is a whole second at least
        if (prediction.code, sorted(prediction.addresses)) != (code, found) or not same_time:
            wrong.append((world, f"{world}\n  {libc}: {code} {found} {seconds}\n  predicted: {prediction}"))
    return wrong
