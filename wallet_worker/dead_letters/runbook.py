"""The runbook: what a dead letter means, what is safe now, and whom to ask. RUNBOOK.md is made from it.

python -m wallet_worker.dead_letters.runbook > wallet_worker/dead_letters/RUNBOOK.md

Advice depends on the reason, on what a replay would do now, and on the state of the order. Where a replay would bring
the letter back for another reason, that reason counts. The rows are in `advice.py`, the meanings of the reasons in
`meanings.py`, and what an order's state means in `payment_states.py`. `tests/dead_letters/test_runbook.py` follows each
advice from the state in which it is given.
"""

from wallet_worker.dead_letters.advice import ADVICE, ANY_REASON, Situation, advice_for
from wallet_worker.dead_letters.meanings import REFUSALS, meaning_of
from wallet_worker.dead_letters.model.letters import RunbookLine
from wallet_worker.dead_letters.payment_states import PAYMENT_STATES, of_order
from wallet_worker.dead_letters.reasons import REASONS


def line(situation: Situation) -> RunbookLine:
    """Return what a person needs to know of a letter."""
    row = advice_for(situation)
    safe = row.safe
    if (
        row.has_order_sentence
        and situation.is_payment
        and situation.order_type is not None
        and situation.order_status is not None
    ):
        state = of_order(
            situation.order_type, situation.order_status, account_closed=situation.account_closed
        )
        safe = f"{safe} {state}"
    return RunbookLine(situation.reason, meaning_of(situation.reason), safe, row.ask, row.when, row.name)


def lines(reason: str) -> list[RunbookLine]:
    """Return every advice that is only about this reason, and those that are about several, in order."""
    return [
        RunbookLine(reason, meaning_of(reason), row.safe, row.ask, row.when, row.name)
        for row in ADVICE
        if reason in row.reasons and row.reasons != ANY_REASON
    ]


def common() -> list[RunbookLine]:
    """Return the advice that is given whatever the reason is."""
    return [
        RunbookLine("any", "Any reason.", row.safe, row.ask, row.when, row.name)
        for row in ADVICE
        if row.reasons == ANY_REASON
    ]


def page() -> str:
    """Return the whole runbook in Markdown."""
    any_rows = "\n".join(f"| {item.when} | {item.safe} | {item.ask} |" for item in common())
    rows = "\n".join(
        f"| `{reason}` {meaning_of(reason)} | {line.when} | {line.safe} | {line.ask} |"
        for reason in REASONS
        if reason not in REFUSALS
        for line in lines(reason)
    )
    refusals = ", ".join(f"`{reason}`" for reason in REASONS if reason in REFUSALS)
    refusal = next(row for row in ADVICE if row.name == "refusal")
    orders = "\n".join(
        f"| {order_type.value} | {status.value} | {of_order(order_type, status)} |"
        for order_type, status in PAYMENT_STATES
    )
    return f"""\
# Runbook for dead letters

<!-- made by `python -m wallet_worker.dead_letters.runbook`; a test compares, and another follows each advice -->

Looking and planning are always safe. A replay has the effect that the message would have had, once: its serial number,
or payment_order_no, sees to that. Read the plan's prediction before you execute it. Never discard a payment result
while nobody knows where the money is. When in doubt, leave a letter waiting: nothing expires here.

Before an edit, tell the sender not to send the old serial number again: the wallet would take it as another message.
`wallet dlq show NUMBER` and the console give the advice for one letter as it stands now.

1. `wallet dlq groups`: what is there, and since when.
2. `wallet dlq show NUMBER`: one letter, what the wallet knows of it, and what a replay would do now.
3. `wallet dlq replay --reason CODE --why "…"`: the plan, with its token. Read the counts.
4. `wallet dlq replay --execute TOKEN`: the replay. With `--canary 5` in the plan, five letters go first.

## Whatever the reason is

| when | what is safe | whom to ask |
|---|---|---|
{any_rows}

## By reason

The first row that fits is the advice.

| reason | when | what is safe | whom to ask |
|---|---|---|---|
{rows}
| {refusals} | always | {refusal.safe} | {refusal.ask} |

## What the order's state means

Where a letter is about a payment, the state of its order is added to the advice.

| order | state | what it means |
|---|---|---|
{orders}
"""


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 -- its product
