"""The policy of senders: who a message is from, and where an answer may go."""

import pytest

from wallet_worker.core.senders import Rights, Sender, Senders, reply_refusal
from wallet_worker.settings.sender_rights import read_senders

POLICY = Senders(
    {
        "shop": Rights(types=("account.open", "order.*")),
        "api": Rights(types=("*",), clients=True),
        "keeper": Rights(replays=True),
    }
)


@pytest.mark.parametrize(
    ("login", "client", "replayed_for", "sender"),
    [
        (None, "acme/k1", "shop", None),
        ("shop", None, None, "shop"),
        ("shop", "acme/k1", None, "shop"),
        ("shop", None, "api", "shop"),
        ("stranger", "acme/k1", "shop", "stranger"),
        ("api", "acme/k1", None, "api/acme/k1"),
        ("api", None, None, "api"),
        ("api", "with a space", None, "api"),
        ("api", b"acme", None, "api"),
        ("keeper", None, None, "keeper"),
        ("keeper", None, "shop", "shop"),
        ("keeper", None, "api/acme/k1", "api/acme/k1"),
        ("keeper", "acme/k1", None, "keeper"),
    ],
)
def test_a_message_is_from_whoever_the_policy_believes(
    login: str | None, client: object, replayed_for: object, sender: str | None
) -> None:
    found = POLICY.sender(login, client, replayed_for)

    assert (None if found is None else str(found)) == sender


@pytest.mark.parametrize(
    ("sender", "sent_by", "same"),
    [
        (Sender("shop"), "shop", True),
        (Sender("shop"), "shop2", False),
        (Sender("shop"), None, False),
        (Sender("shop"), "api/shop/k1", False),
        (Sender("api", "acme/k1"), "api/acme/k1", True),
        (Sender("api", "acme/k2"), "api/acme/k1", True),
        (Sender("api", "acme/k1"), "api/other/k1", False),
        (Sender("api", "acme/k1"), "api", False),
        (Sender("api"), "api/acme/k1", False),
    ],
)
def test_a_client_stays_the_same_with_another_key(sender: Sender, sent_by: str | None, *, same: bool) -> None:
    assert sender.is_same(sent_by) is same


@pytest.mark.parametrize(
    ("sender", "rights"),
    [
        (None, None),
        (Sender("stranger"), None),
        (Sender("api"), Rights(clients=True)),
        (Sender("api", "shop/k1"), Rights(clients=True)),
        (Sender("api", "support/k1"), Rights(any_order=True)),
        (Sender("api", "support/k2"), Rights(any_order=True)),
        (Sender("api", "support2/k1"), Rights(clients=True)),
        (Sender("other", "support/k1"), None),
    ],
)
def test_a_client_that_the_policy_names_has_rights_of_its_own(
    sender: Sender | None, rights: Rights | None
) -> None:
    senders = read_senders('{"api": {"clients": true}, "api/support": {"any_order": true}}')

    assert senders is not None
    assert senders.of(sender) == rights


@pytest.mark.parametrize(
    ("name", "types", "may"),
    [
        ("order.recharge", ("order.recharge",), True),
        ("order.recharge", ("order.*",), True),
        ("order.recharge", ("*",), True),
        ("order.recharge", ("order.rechar",), False),
        ("order.recharge", ("order",), False),
        ("account.open", ("order.*",), False),
        ("account.open", (), False),
    ],
)
def test_a_last_star_stands_for_any(name: str, types: tuple[str, ...], *, may: bool) -> None:
    assert Rights(types=types).may_send(name) is may
    assert Rights(queries=types).may_ask(name) is may


@pytest.mark.parametrize(
    ("reply_to", "login", "anyone", "answered"),
    [
        ("amq.rabbitmq.reply-to.g1h2", None, False, True),
        ("amq.gen-abc", "shop", False, True),
        ("reply.shop.1", "shop", False, True),
        ("reply.shop", "shop", False, False),
        ("reply.shop2.1", "shop", False, False),
        ("reply.shop.1", None, False, False),
        ("reply.anything", None, True, True),
        ("replies", None, True, False),
        ("amq.rabbitmq.reply-to", None, True, False),
        *(
            (queue, "shop", anyone, False)
            for queue in (
                "payment.requests",
                "payment.results",
                "wallet.commands",
                "wallet.dead-letters",
                "wallet.unrouted",
                "wallet.queries",
                "events.audit",
            )
            for anyone in (True, False)
        ),
    ],
)
def test_an_answer_goes_to_its_sender_only(
    reply_to: str, login: str | None, *, anyone: bool, answered: bool
) -> None:
    assert (reply_refusal(reply_to, login, anyone=anyone) is None) is answered


def test_a_setting_says_anyone_or_who() -> None:
    assert read_senders("anyone") is None
    policy = read_senders(
        '{"shop": {"types": ["account.open"], "users": "shop:", "account_types": ["basic"]}}'
    )
    assert policy == Senders(
        {"shop": Rights(types=("account.open",), users="shop:", account_types=frozenset({"basic"}))}
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it should be anyone, or JSON"),
        ("everybody", "it should be anyone, or JSON"),
        ("[]", "Should be an object"),
        ('{"shop": {}, "shop": {}}', "twice"),
        ('{"shop": {"typs": []}}', "shop.typs"),
        ('{"shop": {"types": ["order.recharge.v1"]}}', "no command"),
        ('{"shop": {"types": ["orders.*"]}}', "no command begins"),
        ('{"shop": {"queries": ["account.open"]}}', "no query"),
        ('{"shop": {"account_types": []}}', "account_types"),
        ('{"a/b": {"clients": true}}', "cannot have a /"),
        ("@/not/there", "cannot be read"),
    ],
)
def test_a_setting_that_is_wrong_is_said(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_senders(text)
