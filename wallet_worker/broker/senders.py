"""Who a message is from, and where its answer may go: what the broker has verified, and what it cannot know."""

from collections.abc import Callable

from pamqp.commands import Basic

from wallet_worker.core.senders import why_not_answered


class SenderPolicy:
    """Where answers may go: to a queue of whoever asks, and to no queue of the wallet or of anybody else.

    A message whose `reply_to` is no such address is applied all the same, answered nowhere, and counted by
    `on_reply_refused`. Where `anyone` may send, a queue's name says who reads it, and nothing proves that; else an
    address has its sender's login in it, which the broker has verified.
    """

    def __init__(self, *, anyone: bool = True, on_reply_refused: Callable[[], None] = lambda: None) -> None:
        self._anyone = anyone
        self._on_reply_refused = on_reply_refused

    def reply_to(self, properties: Basic.Properties) -> str | None:
        """Return the address that a message is answered to, if it asks for an answer and may have it there."""
        address = properties.reply_to
        if not address:
            return None
        is_a_name = address.isascii() and address.isprintable()
        if not is_a_name or why_not_answered(address, properties.user_id, anyone=self._anyone) is not None:
            self._on_reply_refused()
            return None
        return address


ANYONE = SenderPolicy()
"""The policy of whoever has none."""
