"""Webhooks: the signature by the specification, its schedule of retries, and where nothing is posted."""

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest

from wallet_worker.core.webhooks import (
    RETRIES,
    Network,
    may_reach,
    next_wait,
    secret_of,
    signature,
    trial_event,
    wrong_url,
)

NETWORKS: tuple[Network, ...] = (ipaddress.ip_network("10.2.0.0/16"),)


def test_the_vector_of_the_specification() -> None:
    body = b'{"test": 2432232314}'
    found = signature(
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body
    )

    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_secret_signs() -> None:
    older, newer = secret_of(b"o" * 32), secret_of(b"n" * 32)

    both = signature((newer, older), "e-1", 1, b"{}")

    assert both == f"{signature((newer,), 'e-1', 1, b'{}')} {signature((older,), 'e-1', 1, b'{}')}"


def test_attempts_follow_the_published_schedule_and_end() -> None:
    waits = [next_wait(attempts, 0.5) for attempts in range(1, 11)]

    assert waits == [*RETRIES, None]
    assert [RETRIES[0], RETRIES[-1]] == [timedelta(seconds=5), timedelta(hours=24)]
    for chance, share in ((0.0, 0.9), (1.0, 1.1)):
        assert next_wait(2, chance) == timedelta(minutes=5) * share


def test_an_endpoint_that_says_when_to_come_back_is_not_asked_sooner() -> None:
    assert next_wait(1, 0.5, "120") == timedelta(minutes=2)
    assert next_wait(3, 0.5, "120") == timedelta(minutes=30)
    assert next_wait(1, 0.5, "999999999") == timedelta(hours=24)
    assert next_wait(1, 0.5, "Wed, 21 Oct 2026 07:28:00 GMT") == timedelta(seconds=5)
    assert next_wait(10, 0.5, "120") is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "255.255.255.255", "224.0.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1", "198.18.0.1", "192.0.2.1",
    ],
)  # fmt: skip
def test_no_address_that_is_not_public_is_reached_by_whatever_spelling(address: str) -> None:
    assert not may_reach(ipaddress.ip_address(address))


def test_public_addresses_and_the_networks_of_a_deployment_are_reached() -> None:
    for address in ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"):
        assert may_reach(ipaddress.ip_address(address)), address
    assert may_reach(ipaddress.ip_address("10.2.3.4"), NETWORKS)
    assert may_reach(ipaddress.ip_address("::ffff:10.2.3.4"), NETWORKS)
    assert not may_reach(ipaddress.ip_address("10.3.3.4"), NETWORKS)


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/", "ftp://shop.example/", "https://", "https:///x", "https://shop.example:0/",
        "https://shop.example:99999/", "https://user:password@shop.example/", "https://shop.example/#part",
        "https://shop.example/a b", "https://shop.example/\r\nx: y", "https://shöp.example/", "https://127.0.0.1/",
        "https://[::1]/", "https://10.2.0.1.evil_host/", "https://shop.example/" + "x" * 2_000, "//shop.example/",
        "https://[::1%25eth0]/", "https://-shop.example/", "https://shop.example\\@evil.example/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_leads_inside_is_refused(url: str) -> None:
    assert wrong_url(url) is not None


def test_an_address_may_have_a_port_a_path_and_a_query() -> None:
    for url in (
        "https://shop.example",
        "https://shop.example:8443/wallet?of=shop",
        "https://[2606:2800::1]:444/x",
    ):
        assert wrong_url(url) is None, url
    assert wrong_url("https://10.2.0.1/x", NETWORKS) is None


def test_a_test_event_looks_like_an_event() -> None:
    event_id, kind, body = trial_event(datetime(2026, 1, 2, 3, 4, 5, 6, UTC), b"r" * 10)

    assert kind == "webhook.test"
    assert body == (
        f'{{"type":"webhook.test.v1","event_id":"{event_id}","occurred_at":"2026-01-02T03:04:05.000006Z","data":{{}}}}'
    )
