"""The device grant against a real small issuer: RFC 8628, and what must not happen on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.device_issuer import DeviceIssuer
from fakes.http_server import serving

from rankgate.clients.console import OpenId
from rankgate.clients.device import DeviceError, Prompt, Signed, device_login


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)


@pytest.fixture
def issuer() -> Iterator[DeviceIssuer]:
    app = DeviceIssuer()
    with serving(app):
        yield app


def login(issuer: DeviceIssuer, time: Time | None = None, prompts: list[Prompt] | None = None) -> Signed:
    time = time or Time()
    openid = OpenId(issuer.url, "rankgate-cli", "console-api", ("openid", "groups"))
    show = [].append if prompts is None else prompts.append
    return device_login(openid, show, clock=time, sleep=time.sleep)


def test_the_person_sees_the_page_and_the_code_and_the_token_is_returned(issuer: DeviceIssuer) -> None:
    prompts: list[Prompt] = []
    signed = login(issuer, prompts=prompts)
    assert prompts == [
        Prompt(f"{issuer.url}/activate", "WDJB-MJHT", f"{issuer.url}/activate?user_code=WDJB-MJHT", 600.0)
    ]
    assert signed == Signed(issuer.token, 3600.0)
    assert issuer.token not in repr(signed)


def test_only_the_client_the_scopes_and_the_device_code_are_sent(issuer: DeviceIssuer) -> None:
    login(issuer)
    assert issuer.forms[1:] == [
        ("/device", {"client_id": "rankgate-cli", "scope": "openid groups"}),
        ("/token", {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "secret-device-code",
            "client_id": "rankgate-cli",
        }),
    ]  # fmt: skip


def test_it_polls_at_the_interval_and_slower_from_slow_down_on(issuer: DeviceIssuer) -> None:
    issuer.answers = ["authorization_pending", "slow_down", "authorization_pending"]
    issuer.device = {"interval": 2}
    time = Time()
    login(issuer, time)
    assert time.sleeps == [2.0, 2.0, 7.0, 7.0]


def test_five_seconds_is_the_interval_where_the_issuer_gives_none(issuer: DeviceIssuer) -> None:
    issuer.device = {"interval": 5}
    time = Time()
    login(issuer, time)
    assert time.sleeps == [5.0]


def test_an_issuer_that_is_away_for_a_moment_is_asked_again_later(issuer: DeviceIssuer) -> None:
    issuer.answers = ["away"]
    time = Time()
    assert login(issuer, time).token == issuer.token
    assert time.sleeps == [1.0, 2.0]


@pytest.mark.parametrize(
    ("answers", "device", "says"),
    [
        (["access_denied"], {}, "the login was refused"),
        (["expired_token"], {}, "the code has expired"),
        (["authorization_pending"] * 99, {"expires_in": 5}, "the code has expired"),
        (["invalid_client"], {}, "the issuer gives no token: invalid_client"),
        (["\x1b[31m"], {}, "the issuer gives no token"),
    ],
)
def test_a_login_that_does_not_come_about_says_why_and_quotes_no_text_of_the_issuer(
    issuer: DeviceIssuer, answers: list[str], device: dict[str, object], says: str
) -> None:
    issuer.answers, issuer.device = answers, device
    with pytest.raises(DeviceError) as error:
        login(issuer)
    assert says in str(error.value)
    assert "\x1b" not in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    "device",
    [
        {"verification_uri": "http://evil.example/activate"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "https://user@evil.example/"},
        {"user_code": ""},
        {"user_code": "x" * 65},
        {"device_code": None},
        {"expires_in": 0},
        {"expires_in": "600"},
        {"interval": -1},
    ],
)
def test_a_page_or_code_that_nobody_should_follow_is_not_shown(issuer: DeviceIssuer, device: dict[str, object]) -> None:
    issuer.device = device
    prompts: list[Prompt] = []
    with pytest.raises(DeviceError):
        login(issuer, prompts=prompts)
    assert prompts == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"device_authorization_endpoint": None},
        {"device_authorization_endpoint": "http://evil.example/device"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": 7},
    ],
)
def test_an_issuer_that_describes_itself_wrongly_gets_nothing(
    issuer: DeviceIssuer, metadata: dict[str, object]
) -> None:
    issuer.metadata = metadata
    with pytest.raises(DeviceError):
        login(issuer)
    assert [path for path, _ in issuer.forms] == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "claims", [{"iss": "https://other.example"}, {"aud": "rerank"}, {"aud": ["rerank", "other"]}, {"aud": None}]
)
def test_a_token_of_another_issuer_or_for_another_audience_is_refused(
    issuer: DeviceIssuer, claims: dict[str, object]
) -> None:
    issuer.claims = claims
    with pytest.raises(DeviceError, match="not for the console's audience"):
        login(issuer)


def test_a_token_for_several_audiences_of_which_the_console_is_one_is_taken(issuer: DeviceIssuer) -> None:
    issuer.claims = {"aud": ["console-api", "userinfo"]}
    assert login(issuer).token == issuer.token


def test_a_token_that_tells_nothing_is_refused(issuer: DeviceIssuer) -> None:
    issuer.token = "opaque"
    with pytest.raises(DeviceError, match="not a JWT"):
        login(issuer)
