"""Who a message is from, and where its answer may go: what the broker has verified, and what it cannot know."""

import re
from collections.abc import Callable

from pamqp.commands import Basic

from wallet_schemas.names import CLIENT_HEADER, SENDER_HEADER
from wallet_worker.core.senders import Sender, Senders, reply_refusal

_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")  # what PostgreSQL keeps


class SenderPolicy:
    """Who a message is from, and where its answer may go.

    Answers go to a queue of whoever asks, and to no queue of the wallet or of anybody else.

    A message whose `reply_to` is no such address is applied all the same, answered nowhere, and counted by
    `on_reply_refused`. Where `anyone` may send, a queue's name says who reads it, and nothing proves that; else an
    address has its sender's login in it, which the broker has verified.
    """

    def __init__(
        self, senders: Senders | None = None, on_reply_refused: Callable[[], None] = lambda: None
    ) -> None:
        """Without `senders` anyone may send."""
        self._senders = senders
        self._on_reply_refused = on_reply_refused

    def sender(self, properties: Basic.Properties) -> Sender | None:
        """Return who the message is from, as far as somebody says so who is believed; it is kept with the command."""
        login = properties.user_id
        if not login or not _NAME.fullmatch(login):
            return None
        if self._senders is None:
            return Sender(login)
        headers = properties.headers or {}
        return self._senders.sender(login, headers.get(CLIENT_HEADER), headers.get(SENDER_HEADER))

    @property
    def senders(self) -> Senders | None:
        """The deployment's policy; absent where anyone may send."""
        return self._senders

    def reply_to(self, properties: Basic.Properties) -> str | None:
        """Return the address that a message is answered to, if it asks for an answer and may have it there."""
        address = properties.reply_to
        if not address:
            return None
        is_a_name = address.isascii() and address.isprintable()
        if (
            not is_a_name
            or reply_refusal(address, properties.user_id, anyone=self._senders is None) is not None
        ):
            self._on_reply_refused()
            return None
        return address


ANYONE = SenderPolicy()
"""The policy of whoever has none."""
