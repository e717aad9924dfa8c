"""Check digits of national identifiers, as arithmetic on plain digits: a text may hold thousands of candidates."""

from __future__ import annotations

from datetime import date
from operator import mul

__all__ = ["is_aadhaar", "is_fiscal_code", "is_idnr", "is_nhs", "is_nif", "is_pesel"]


def _table() -> tuple[tuple[int, ...], ...]:
    """Return the products of the dihedral group of order ten, on which Verhoeff's check digit rests."""

    def product(one: int, other: int) -> int:
        turned = (one + other if one < 5 else one - other) % 5
        return turned + 5 * ((one >= 5) != (other >= 5))

    return tuple(tuple(product(one, other) for other in range(10)) for one in range(10))


def _permutations() -> tuple[tuple[int, ...], ...]:
    rows = [tuple(range(10))]
    for _ in range(7):
        rows.append(tuple((1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit] for digit in rows[-1]))
    return tuple(rows)


_PRODUCT = _table()
_PERMUTED = _permutations()


def is_aadhaar(digits: str) -> bool:
    """Return whether twelve digits are an Aadhaar number: first digit over 1, no palindrome, Verhoeff's digit."""
    if digits[0] in "01" or digits == digits[::-1]:
        return False
    check = 0
    for index, digit in enumerate(reversed(digits)):
        check = _PRODUCT[check][_PERMUTED[index % 8][int(digit)]]
    return check == 0


def is_nhs(digits: str) -> bool:
    """Return whether ten digits are an NHS number: weights 10 to 1, modulo 11."""
    # The offset of ASCII digits, 48 times the sum of the weights, is a multiple of 11.
    return sum(map(mul, range(10, 0, -1), digits.encode())) % 11 == 0 and len(set(digits)) > 1


def is_pesel(digits: str) -> bool:
    """Return whether eleven digits are a PESEL: weights 1 3 7 9, modulo 10, and a day between 1800 and 2299."""
    if sum(map(mul, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), map(int, digits))) % 10:
        return False
    century, month = divmod(int(digits[2:4]), 20)
    return _is_day((1900, 2000, 2100, 2200, 1800)[century] + int(digits[:2]), month, int(digits[4:6]))


def is_idnr(digits: str) -> bool:
    """Return whether eleven digits are a German tax id: ISO 7064 mod 11,10, one digit of ten twice or thrice."""
    body = digits[:10]
    kinds = len(set(body))
    if digits[0] == "0" or kinds not in {8, 9} or (kinds == 8 and max(map(body.count, body)) != 3):
        return False
    rest = 10
    for digit in body:
        rest = ((rest + int(digit)) % 10 or 10) * 2 % 11
    return (11 - rest) % 10 == int(digits[10])


def is_nif(compact: str) -> bool:
    """Return whether `compact`, upper case, is a Spanish DNI or NIE: the letter is the number modulo 23."""
    number = compact[:-1]
    if number[0] in "XYZ":
        number = str("XYZ".index(number[0])) + number[1:]
    return compact[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*(1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)
_EVEN = {character: index if index < 10 else index - 10 for index, character in enumerate(_ODD)}
_REPLACED = str.maketrans("LMNPQRSTUV", "0123456789")


def is_fiscal_code(compact: str) -> bool:
    """Return whether `compact`, sixteen characters in upper case, is a codice fiscale (Decreto 12 marzo 1974)."""
    total = sum(map(_ODD.__getitem__, compact[:15:2])) + sum(map(_EVEN.__getitem__, compact[1:15:2]))
    year, day = compact[6:8].translate(_REPLACED), int(compact[9:11].translate(_REPLACED))
    month = "ABCDEHLMPRST".index(compact[8]) + 1
    # The century is not written; 2000 is a leap year where 1900 is none.
    return chr(ord("A") + total % 26) == compact[15] and _is_day(2000 + int(year), month, day % 40)


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
