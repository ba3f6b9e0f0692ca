"""OpenSSL is told to leave ADX alone where that is known to be faster, and nowhere else; what an operator says stands."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.sender.dkim.processor import VARIABLE, WITHOUT_ADX, choose, prefers_avx2
from tests.support.nursery import ROOT

_ZEN_3 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse2 avx avx2 bmi2 adx sha_ni
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: AuthenticAMD
"""


@pytest.mark.parametrize(
    ("old", "new", "known"),
    [
        ("", "", True),
        ("AuthenticAMD", "GenuineIntel", False),
        ("cpu family\t: 25", "cpu family\t: 26", False),
        ("avx2 ", "", False),
        ("adx", "", False),
        ("sha_ni", "sha_ni avx512ifma", False),
        (_ZEN_3, "", False),
    ],
    ids=["zen 3", "intel", "zen 5", "no avx2", "no adx", "zen 4", "nothing is said"],
)
def test_it_is_zen_3_that_prefers_avx2(old: str, new: str, known: bool) -> None:
    assert prefers_avx2(_ZEN_3.replace(old, new)) is known


def test_what_an_operator_sets_stands(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(_ZEN_3)
    env: dict[str, str] = {}
    choose(env, cpuinfo)
    assert env == {VARIABLE: WITHOUT_ADX}
    env = {VARIABLE: "~0"}
    choose(env, cpuinfo)
    assert env == {VARIABLE: "~0"}
    env = {}
    choose(env, tmp_path / "none")
    assert env == {}


def test_it_is_chosen_before_the_sender_loads_openssl() -> None:
    program = (
        "import sys, services.sender.dkim.processor as processor\n"
        "loaded = []\n"
        "processor.choose = lambda: loaded.append('cryptography' in sys.modules)\n"
        "import services.sender.__main__\n"
        "assert 'cryptography' in sys.modules\n"
        "print(loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[False]\n", done.stderr
