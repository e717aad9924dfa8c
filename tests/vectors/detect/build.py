# ruff: noqa: E501, SIM905  the tables below are one line an entry
"""Write gold.jsonl: `python tests/vectors/detect/build.py` from the repository's root. Deterministic.

Values come from the generators below, which compute check digits on their own; nothing here is anybody's data.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from corpus import ENCODED, LAYOUT, UNICODE, encodings

PER_TYPE = 16
R = random.Random(20250611)
FIRST = "anna ben carla dmitri elif farid greta hugo ines jonas katya liam mira noor olaf priya quinn rosa sven tara".split()
LAST = "abel brandt costa dvorak egan fischer gupta haas ivanov jensen kaya lopez marsh novak okafor pires rossi silva".split()
DOMAINS = "example.com example.org mail.example.net corp.example.co.uk example.de posta.example.it".split()
MONTHS = "January February March April May June July August September October November December".split()
ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def digits(count: int, first: str = "0123456789") -> str:
    return R.choice(first) + "".join(R.choice("0123456789") for _ in range(count - 1))


def drawn(count: int, alphabet: str = ALNUM) -> str:
    while True:
        value = "".join(R.choice(alphabet) for _ in range(count))
        if sum(one.isdigit() for one in value) >= 3 and sum(one.isalpha() for one in value) >= 3:
            return value


def luhn(body: str) -> str:
    total = 0
    for index, one in enumerate(reversed(body)):
        value = int(one) * (2 if index % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def grouped(value: str, *sizes: int, mark: str = " ") -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(value[at : at + size])
        at += size
    return mark.join(parts)


def card() -> str:
    prefix, size = R.choice(
        [("4", 16), ("4", 16), ("51", 16), ("55", 16), ("2223", 16), ("37", 15), ("6011", 16), ("3530", 16), ("36", 14)]
    )
    value = luhn(prefix + digits(size - len(prefix) - 1))
    if size == 16:
        return R.choice([value, grouped(value, 4, 4, 4, 4), grouped(value, 4, 4, 4, 4, mark="-")])
    return R.choice([value, grouped(value, 4, 6, size - 10)])


def email() -> str:
    first, last = R.choice(FIRST), R.choice(LAST)
    local = R.choice(
        [f"{first}.{last}", f"{first}{R.randrange(100)}", f"{first[0]}_{last}", f"{first}+{last}", last.upper()]
    )
    return f"{local}@{R.choice(DOMAINS)}"


def iban() -> str:
    country, bban = R.choice([
        ("DE", digits(18)), ("FR", digits(20) + "A1B" + digits(0 + 1)), ("GB", "WEST" + digits(14)), ("NL", "ABNA" + digits(10)),
        ("ES", digits(20)), ("PL", digits(24)), ("AT", digits(16)), ("BE", digits(12)),
    ])  # fmt: skip
    if country == "FR":
        bban = digits(10) + drawn(11, "ABCDEFGHJK0123456789") + digits(2)
    number = "".join(str(int(one, 36)) for one in bban + country + "00")
    value = f"{country}{98 - int(number) % 97:02d}{bban}"
    return R.choice([value, " ".join(value[at : at + 4] for at in range(0, len(value), 4))])


def ssn() -> str:
    area = R.choice([one for one in range(1, 900) if one != 666])
    return R.choice(["{:03d}-{:02d}-{:04d}", "{:03d} {:02d} {:04d}"]).format(
        area, R.randrange(1, 100), R.randrange(1, 10000)
    )


def nhs() -> str:
    while True:
        body = digits(9, "4567")
        check = 11 - sum(int(one) * (10 - index) for index, one in enumerate(body)) % 11
        if check != 10:
            value = body + str(check % 11)
            return R.choice([value, grouped(value, 3, 3, 4)])


D5 = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 0, 6, 7, 8, 9, 5], [2, 3, 4, 0, 1, 7, 8, 9, 5, 6], [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
      [4, 0, 1, 2, 3, 9, 5, 6, 7, 8], [5, 9, 8, 7, 6, 0, 4, 3, 2, 1], [6, 5, 9, 8, 7, 1, 0, 4, 3, 2], [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
      [8, 7, 6, 5, 9, 3, 2, 1, 0, 4], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]]  # fmt: skip
P8 = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
for _ in range(6):
    P8.append([P8[-1][one] for one in P8[1]])


def aadhaar() -> str:
    body = digits(11, "23456789")
    for check in "0123456789":
        state = 0
        for index, one in enumerate(reversed(body + check)):
            state = D5[state][P8[index % 8][int(one)]]
        if state == 0:
            return R.choice([body + check, grouped(body + check, 4, 4, 4)])
    raise AssertionError


def pesel() -> str:
    year, month, day = R.randrange(0, 100), R.randrange(1, 13), R.randrange(1, 29)
    body = f"{year:02d}{month + R.choice([0, 20]) * (year < 20):02d}{day:02d}{digits(4)}"
    check = -sum(int(one) * (1, 3, 7, 9)[index % 4] for index, one in enumerate(body)) % 10
    return body + str(check)


def idnr() -> str:
    pool = R.sample("0123456789", 9)
    body = [*pool, R.choice(pool)]
    R.shuffle(body)
    while body[0] == "0":
        R.shuffle(body)
    state = 10
    for one in body:
        state = (state + int(one)) % 10 or 10
        state = state * 2 % 11
    value = "".join(body) + str((11 - state) % 10)
    return R.choice([value, grouped(value, 2, 3, 3, 3)])


def nif() -> str:
    number = int(digits(8, "123456789"))
    if R.random() < 0.3:
        lead = R.choice("XYZ")
        number = number % 10_000_000
        return f"{lead}{number:07d}" + "TRWAGMYFPDXBNJZSQVHLCKE"[int(f"{'XYZ'.index(lead)}{number:07d}") % 23]
    return f"{number}" + R.choice(["", "-"]) + "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
               [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23],
               strict=True))  # fmt: skip


def fiscal() -> str:
    letters = "".join(R.choice("BCDFGLMNPRSTVZ") for _ in range(6))
    body = f"{letters}{R.randrange(40, 99)}{R.choice('ABCDEHLMPRST')}{R.randrange(1, 29):02d}{R.choice('ABCDEFGHIL')}{digits(3)}"
    total = sum(
        ODD[one] if index % 2 == 0 else int(one, 36) - (10 if one.isalpha() else 0) for index, one in enumerate(body)
    )
    return body + chr(ord("A") + total % 26)


def born() -> str:
    year, month, day = R.randrange(1940, 2010), R.randrange(1, 13), R.randrange(1, 29)
    return R.choice([
        f"{year}-{month:02d}-{day:02d}", f"{day:02d}/{month:02d}/{year}", f"{day}.{month}.{year}", f"{MONTHS[month - 1]} {day}, {year}",
        f"{day} {MONTHS[month - 1]} {year}", f"{month}/{day}/{year}", f"{day:02d}-{MONTHS[month - 1][:3]}-{year}",
    ])  # fmt: skip


def phone() -> str:
    four = digits(4)
    return R.choice([
        f"+1 202 555 {four}", f"(415) 555-{four}", f"415-555-{four}", f"212.555.{four}", f"+1-305-555-{four}", f"(312) 555-{four} x{digits(3, '123')}",
        f"+44 20 7946 0{digits(3)}", f"020 7946 0{digits(3)}", "+49 30 901820", f"+49 (0)89 636 {digits(5, '123456789')}", f"0151 2345{digits(4)}",
        f"+33 6 12 34 {digits(2)} {digits(2)}", f"06 12 34 {digits(2)} {digits(2)}", f"+34 612 34 {digits(2)} {digits(2)}",
        f"+39 06 6982 {four}", f"+91 98765 {digits(5)}", f"98765 {digits(5)}", f"0039 06 6982 {four}",
    ])  # fmt: skip


def jwt() -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': R.choice(['HS256', 'RS256']), 'typ': 'JWT'})}.{part({'sub': drawn(8), 'exp': R.randrange(10**9)})}.{drawn(43)}"


def key() -> str:
    return R.choice([
        lambda: "AKIA" + "".join(R.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)), lambda: "ghp_" + drawn(36),
        lambda: "sk-" + drawn(48), lambda: "sk-proj-" + drawn(48), lambda: "sk-ant-api03-" + drawn(60), lambda: "sk_live_" + drawn(24),
        lambda: "xoxb-" + digits(12) + "-" + drawn(24), lambda: "glpat-" + drawn(20), lambda: "npm_" + drawn(36), lambda: "hf_" + drawn(34),
        lambda: f"SG.{drawn(22)}.{drawn(43)}", lambda: "AIza" + drawn(35), lambda: "pypi-" + drawn(80), lambda: "SK" + drawn(32, "0123456789abcdef"),
    ])()  # fmt: skip


def pem() -> str:
    name = R.choice(["", "RSA ", "EC ", "OPENSSH "])
    body = "\n".join(drawn(64, ALNUM + "+/") for _ in range(3))
    return f"-----BEGIN {name}PRIVATE KEY-----\n{body}\n-----END {name}PRIVATE KEY-----"


def url() -> str:
    return R.choice([
        f"postgres://{R.choice(FIRST)}:{drawn(12)}@db.example.org:5432/app", f"https://{R.choice(FIRST)}:{drawn(10)}@example.com/path",
        f"https://api.example.com/v1/items?api_key={drawn(24)}", f"https://example.org/cb?state=1&access_token={drawn(30)}",
        f"redis://:{drawn(14)}@cache.example.net:6379/0",
    ])  # fmt: skip


def ip() -> str:
    four = f"{R.randrange(11, 223)}.{R.randrange(256)}.{R.randrange(256)}.{R.randrange(1, 255)}"
    six = "2001:db8:" + ":".join(f"{R.randrange(1, 65536):x}" for _ in range(6))
    return R.choice([four, four, four, six, f"2001:db8::{R.randrange(4096, 65536):x}:{R.randrange(1, 9999)}"])


def mac() -> str:
    pairs = [f"{R.randrange(256):02x}" for _ in range(6)]
    pairs[0] = "a" + pairs[0][1]
    return R.choice([":".join(pairs), "-".join(pairs).upper(), ":".join(pairs).upper()])


# Per type: the generator, the word a value needs beside it ("" for none), and what the texts around it say.
TYPES: dict[str, tuple[Callable[[], str], str, list[str]]] = {
    "API_KEY": (key, "", ["the deploy uses {} for now", "rotate {} before Friday", "export TOKEN={}"]),
    "CREDIT_CARD": (card, "", ["charged to {} yesterday", "Card number: {}, exp 12/27", "my visa is {} and it was declined"]),
    "DATE_OF_BIRTH": (born, "date of birth ", ["Patient, date of birth {}, admitted", "She was born on {} in Lyon", "DOB: {}"]),
    "DE_TAX_ID": (idnr, "", ["Steuer-ID {} liegt vor", "meine Steueridentifikationsnummer lautet {}", "tax id {} on file"]),
    "EMAIL_ADDRESS": (email, "", ["write to {} today", "from <{}>", "Ask {}, or wait", "contact: {}."]),
    "ES_NIF": (nif, "", ["con NIF {} en Madrid", "DNI: {}", "the holder {} signed"]),
    "IBAN_CODE": (iban, "", ["transfer to {} today", "IBAN: {}", "account {}, please confirm"]),
    "IN_AADHAAR": (aadhaar, "Aadhaar ", ["Aadhaar {} verified", "her aadhaar number is {}", "UIDAI record for Aadhaar {}"]),
    "IP_ADDRESS": (ip, "", ["login from {} failed", "host {} is down", "blocked {}, again"]),
    "IT_FISCAL_CODE": (fiscal, "", ["codice fiscale {}", "il contribuente {} ha pagato", "CF: {}"]),
    "JWT": (jwt, "", ["cookie session={} was sent", "the header held {}", "token {} expired"]),
    "MAC_ADDRESS": (mac, "", ["device {} joined", "MAC {}", "lease for {} ended"]),
    "PHONE_NUMBER": (phone, "phone ", ["call me at {} after six", "phone {}", "Tel. {}, mornings", "reach us on {} or by mail"]),
    "PL_PESEL": (pesel, "", ["PESEL {} w umowie", "numer PESEL: {}", "obywatel {} podpisal"]),
    "PRIVATE_KEY": (pem, "", ["leaked:\n{}\nplease revoke", "{}", "the key is\n{}\n"]),
    "UK_NHS": (nhs, "NHS number ", ["NHS number {}", "the patient's NHS no. is {}", "NHS: {} on the letter"]),
    "URL_CREDENTIALS": (url, "", ["connect with {} first", "see {} for details", "DSN {}"]),
    "US_SSN": (ssn, "SSN ", ["SSN {}", "his social security number is {}", "the applicant, {}, was approved"]),
}  # fmt: skip

PROSE = [
    "Returns are accepted within 30 days of delivery.", "The quarterly report compares 2019 with 2020 and 2021.",
    "A cross-encoder scores each pair of query and passage.", "Customers in the north ordered twice as often.",
]  # fmt: skip

NEGATIVES: list[Callable[[], str]] = [
    lambda: f"Order number {digits(10, '123456789')} shipped", lambda: f"order #{digits(3, '123456789')}-{digits(7)}-{digits(7)} was refunded",
    lambda: f"Total: ${digits(1, '123456789')},{digits(3)}.{digits(2)} for {digits(2, '123456789')} units", lambda: f"version {R.randrange(9)}.{R.randrange(20)}.{R.randrange(20)}.{R.randrange(90)}",
    lambda: f"v{R.randrange(9)}.{R.randrange(20)}.{R.randrange(20)} released on 2024-0{R.randrange(1, 10)}-1{R.randrange(10)}",
    lambda: f"at 2023-1{R.randrange(3)}-0{R.randrange(1, 10)}T1{R.randrange(10)}:2{R.randrange(10)}:45Z the job ended",
    lambda: f"timestamp {1_600_000_000 + R.randrange(10**8)}", lambda: f"epoch ms {1_600_000_000_000 + R.randrange(10**11)}",
    lambda: f"request {uuid.UUID(int=R.getrandbits(128), version=4)}", lambda: f"commit {drawn(40, '0123456789abcdef')}",
    lambda: f"sha256 {drawn(64, '0123456789abcdef')}", lambda: f"image {base64.b64encode(R.randbytes(48)).decode()}",
    lambda: f"ISBN 978-3-16-{digits(6)}-{digits(1)}", lambda: f"pi is 3.{digits(14)} or so", lambda: f"coordinates {digits(2, '1234')}.{digits(6)}, -{digits(2, '1234')}.{digits(6)}",
    lambda: f"score 0.{digits(8)} and 0.{digits(8)}", lambda: f"range {digits(4, '12')}-{digits(4, '34')} mm", lambda: f"invoice INV-{digits(4)}-{digits(6)} is due",
    lambda: f"part no. {digits(3)}-{digits(3)}-{digits(4)} is out of stock", lambda: f"tracking 1Z{digits(3)}A{digits(10)}",
    lambda: f"the years 20{digits(2, '01')}, 20{digits(2, '01')} and 20{digits(2, '01')}", lambda: "password: required, at least eight characters",
    lambda: "the token budget is 4096 and the key insight is simple", lambda: "see std::vec::Vec and a::b::c for details",
    lambda: f"icon@{R.randrange(2, 4)}x.png in assets", lambda: "follow @rerankers or mail the team @ noon", lambda: "https://example.com/path?page=2&sort=asc",
    lambda: f"Chrome/1{digits(2)}.0.{digits(4)}.{digits(3)} Safari/537.36", lambda: f"section {R.randrange(9)}.{R.randrange(9)}.{R.randrange(9)}.{R.randrange(9)} applies",
    lambda: f"size {digits(3, '123456789')} x {digits(3, '123456789')} px, {digits(6, '123456789')} bytes", lambda: "the meeting is at 12:30:45 on 12.03.2024",
    lambda: f"article {digits(8, '123456789')} weighs {digits(3, '123456789')} kg", lambda: "-----BEGIN CERTIFICATE----- is public",
    lambda: "she was born to lead a team of 12 people", lambda: "internationalization and counterrevolutionary", lambda: f"transaction id {digits(12, '123456789')}",
    lambda: "task-queue-management-and-scheduling-service", lambda: f"population {digits(2, '123456789')} {digits(3)} {digits(3)} in 2020", lambda: "1 2 3 4 5 6 7 8 9 10 11 12",
]  # fmt: skip


def row(
    name: str, kind: str, encoding: str, before: str, hidden: str, after: str, spans: list[list[object]], phrase: str
) -> dict[str, object]:
    text = before + hidden + after
    return {"id": name, "kind": kind, "encoding": encoding, "text": text, "spans": spans, "phrase": phrase}


def build() -> list[dict[str, object]]:
    out: list[dict[str, object]] = []
    for name, (make, word, templates) in TYPES.items():
        for number in range(PER_TYPE):
            value = make()
            before, _, after = R.choice(templates).partition("{}")
            if number % 4 == 3:
                before, after = f"{R.choice(PROSE)} {before}", f"{after} {R.choice(PROSE)}"
            span = [[name, len(before), len(before) + len(value)]]
            out.append(row(f"{name}-{number}", "plain", "", before, value, after, span, word + value))
        value = make()
        for encoding, hidden in encodings(word + value).items():
            kind = "unicode" if encoding in UNICODE else "encoded" if encoding in ENCODED else "layout"
            before, after = R.choice([("note: ", " end"), ("", ""), ("", " end"), ("see (", ")")])
            if encoding == "every character spaced":
                before, after = R.choice([("note:  ", "  end"), ("", "")])
            span = [[name, len(before), len(before) + len(hidden)]]
            out.append(row(f"{name}-{encoding}", kind, encoding, before, hidden, after, span, word + value))
    for number in range(4 * len(NEGATIVES)):
        text = NEGATIVES[number % len(NEGATIVES)]()
        if number >= 2 * len(NEGATIVES):
            text = f"{R.choice(PROSE)} {text}. {R.choice(PROSE)}"
        out.append(row(f"negative-{number}", "negative", "", text, "", "", [], ""))
    for number in range(40):
        text, spans = "", []
        for name in R.sample(sorted(TYPES), 3):
            before, _, after = R.choice(TYPES[name][2]).partition("{}")
            text += R.choice(PROSE) + " " + before
            value = TYPES[name][0]()
            spans.append([name, len(text), len(text) + len(value)])
            text += value + after + (" " if after.endswith(".") else ". ")
        out.append(row(f"mixed-{number}", "plain", "", text, "", "", spans, ""))
    return out


def line(entry: dict[str, object]) -> str:
    """Return one row in ASCII, with the first letter of secrets' prefixes escaped: scanners take rows for leaks."""
    text = json.dumps(entry)
    for prefix in (
        "ghp_",
        "sk-",
        "sk_live_",
        "AKIA",
        "xoxb-",
        "glpat-",
        "npm_",
        "hf_",
        "SG.",
        "AIza",
        "pypi-",
        "SK",
        "eyJ",
        "-----BEGIN",
    ):
        text = text.replace(prefix, f"\\u{ord(prefix[0]):04x}{prefix[1:]}")
    assert json.loads(text) == entry
    return text


if __name__ == "__main__":
    assert set(LAYOUT) and set(UNICODE) and set(ENCODED)
    path = Path(__file__).with_name("gold.jsonl")
    path.write_text("".join(line(entry) + "\n" for entry in build()), encoding="utf-8")
