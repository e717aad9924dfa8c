"""Check digits agree with python-stdnum, which was written by others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from stdnum import verhoeff
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.pl import pesel

from rankgate.detect.checks import is_aadhaar, is_fiscal_code, is_idnr, is_nhs, is_nif, is_pesel

CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"


def _numbers(size: int) -> Iterator[str]:
    """Yield numbers with every last digit, so that a tenth of them adds up; some with few different digits."""
    drawn = random.Random(size)
    for count in range(3000):
        few = "".join(drawn.sample("0123456789", 10 if count % 2 else 4))
        body = "".join(drawn.choice(few) for _ in range(size - 1))
        yield from (body + last for last in "0123456789")
    for _ in range(3000):  # what a tax id must look like: nearly all digits different
        body = "".join(drawn.sample("0123456789", 10))
        body = body[: size - 3] + drawn.choice(body) + body[-1]
        yield from (body + last for last in "0123456789")
    for _ in range(3000):  # what a PESEL must look like: a day in front
        day = f"{drawn.randrange(100):02}{drawn.randrange(100):02}{drawn.randrange(1, 33):02}"
        yield from (day + f"{drawn.randrange(10**5):05}"[: size - 7] + last for last in "0123456789")


def _codes() -> Iterator[str]:
    drawn = random.Random(16)
    for _ in range(2000):
        name = "".join(drawn.choice(CONSONANTS) for _ in range(6))
        born = f"{drawn.randrange(100):02}{drawn.choice('ABCDEHLMPRST')}{drawn.randrange(80):02}"
        place = f"{drawn.choice('ABCDEFGHIL')}{drawn.randrange(1000):03}"
        if drawn.random() < 0.3:
            place = place.translate(str.maketrans("0123456789", "LMNPQRSTUV"))
        yield from (name + born + place + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _letters(first: str) -> Iterator[str]:
    drawn = random.Random(first)
    for _ in range(300):
        body = first + f"{drawn.randrange(10**8):08}"[len(first) :]
        yield from (body + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _same(ours: Callable[[str], bool], theirs: Callable[[str], object], candidates: Iterator[str]) -> None:
    verdicts = [(one, ours(one), bool(theirs(one))) for one in candidates]
    assert [one for one in verdicts if one[1] != one[2]][:5] == []
    assert sum(verdict for _, verdict, _ in verdicts) > 100


def test_nhs_numbers() -> None:
    _same(is_nhs, lambda one: len(set(one)) > 1 and nhs.is_valid(one), _numbers(10))


def test_pesels() -> None:
    _same(is_pesel, pesel.is_valid, _numbers(11))


def test_german_tax_ids() -> None:
    _same(is_idnr, idnr.is_valid, _numbers(11))


def test_aadhaar_numbers() -> None:
    def theirs(one: str) -> bool:
        return one[0] not in "01" and one != one[::-1] and bool(verhoeff.is_valid(one))

    _same(is_aadhaar, theirs, _numbers(12))


@pytest.mark.parametrize("first", ["", "X", "Y", "Z"])
def test_spanish_identifiers(first: str) -> None:
    _same(is_nif, nie.is_valid if first else dni.is_valid, _letters(first))


def test_fiscal_codes() -> None:
    valid = [one for one in _codes() if codicefiscale.is_valid(one)]
    assert len(valid) > 100
    assert all(map(is_fiscal_code, valid))
    ours = [one for one in _codes() if is_fiscal_code(one)]
    # The century is not known here, so that the 29th of February passes in a few years more.
    assert len(ours) <= 1.01 * len(valid)
