"""A wallet on one page, of plain dicts: what the contract says, without any of the wallet's own code.

It has no serial numbers, no events and no entries; only what each command and each result does to balances,
reserves and statuses, and the code that it gets. It is slow and simple on purpose.
"""

from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]

CURRENCIES = {"TWD", "JPY"}
OVER_AFTER = timedelta(hours=24)
WAITS = [timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5)]


class Model:
    """Accounts by user and currency, the newest last; orders by serial number; results without an order."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.accounts: dict[tuple[str, str], list[Row]] = {}
        self.orders: dict[str, Row] = {}
        self.parked: list[Row] = []

    def tell(self, said: Row) -> str:
        """Do what a command says, and return the code of its outcome."""
        kind = said["type"].split(".")[1]
        code: str = getattr(self, kind)(said)
        if said["serial_no"] in self.orders:
            for item in self.parked:
                if item["payment_order_no"] == said["serial_no"]:
                    item["due"] = self.now
        return code

    def newest(self, user: str, currency: str) -> Row | None:
        """Return a user's newest account, closed or not."""
        found = self.accounts.get((user, currency))
        return found[-1] if found else None

    # Accounts

    def open(self, said: Row) -> str:
        """Make an account, unless there is one."""
        if said["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        key = (said["user_id"], said["currency"])
        newest = self.newest(*key)
        if newest and newest["status"] != "closed":
            return "ACCOUNT_EXISTS"
        self.accounts.setdefault(key, []).append({"status": "active", "balance": 0, "reserved": 0})
        return "OK"

    def freeze(self, said: Row) -> str:
        """Freeze an account."""
        return self._turn(said, "frozen")

    def unfreeze(self, said: Row) -> str:
        """Unfreeze an account."""
        return self._turn(said, "active")

    def close(self, said: Row) -> str:
        """Close an account that is empty and waits for nothing."""
        return self._turn(said, "closed")

    def _turn(self, said: Row, status: str) -> str:
        if said["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        account = self.newest(said["user_id"], said["currency"])
        if account is None:
            return "ACCOUNT_NOT_FOUND"
        if account["status"] == "closed":
            return "ACCOUNT_CLOSED"
        if status == "closed" and (account["balance"] or account["reserved"]):
            return "BALANCE_NOT_ZERO"
        waits = any(
            order["account"] is account and order["status"] == "pending" for order in self.orders.values()
        )
        if status == "closed" and waits:
            return "ORDERS_PENDING"
        account["status"] = status
        return "OK"

    # Orders

    def recharge(self, said: Row) -> str:
        """Wait for money."""
        payer = self._payer(said, may_be_frozen=True)
        if isinstance(payer, str):
            return payer
        self._make(said, "pending", payer, expires=self.now + OVER_AFTER)
        return "OK"

    def withdraw(self, said: Row) -> str:
        """Reserve money, and wait for it to be paid out."""
        return self._reserve(said, "pending")

    def hold(self, said: Row) -> str:
        """Reserve money for some time."""
        expires = self.now + timedelta(seconds=said["expires_in_seconds"])
        return self._reserve(said, "active", remaining=said["amount"], expires=expires)

    def _reserve(self, said: Row, status: str, **more: Any) -> str:
        payer = self._payer(said)
        if isinstance(payer, str):
            return payer
        if payer["balance"] - payer["reserved"] < said["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["reserved"] += said["amount"]
        self._make(said, status, payer, **more)
        return "OK"

    def transfer(self, said: Row) -> str:
        """Move money at once."""
        if said["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        payer = self.newest(said["user_id"], said["currency"])
        payee = self.newest(said["to_user_id"], said["currency"])
        if payer is None or payee is None:
            return "ACCOUNT_NOT_FOUND"
        if "closed" in {payer["status"], payee["status"]}:
            return "ACCOUNT_CLOSED"
        if payer["status"] == "frozen":
            return "ACCOUNT_FROZEN"
        if payer is payee:
            return "SAME_ACCOUNT"
        if payer["balance"] - payer["reserved"] < said["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["balance"] -= said["amount"]
        payee["balance"] += said["amount"]
        self._make(said, "succeeded", payer)
        return "OK"

    def refund(self, said: Row) -> str:
        """Reserve what a recharge has brought, and wait for it to be given back."""
        if said["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        original = self.orders.get(said["original_serial_no"])
        if original is None:
            return "ORDER_NOT_FOUND"
        payer = original["account"]
        if payer["status"] != "active":
            return "ACCOUNT_CLOSED" if payer["status"] == "closed" else "ACCOUNT_FROZEN"
        if (original["kind"], original["status"]) != ("recharge", "succeeded"):
            return "ORDER_NOT_REFUNDABLE"
        if original["currency"] != said["currency"]:
            return "CURRENCY_MISMATCH"
        if self.refunded(said["original_serial_no"]) + said["amount"] > original["amount"]:
            return "AMOUNT_EXCEEDS_ORIGINAL"
        if payer["balance"] - payer["reserved"] < said["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["reserved"] += said["amount"]
        self._make(said, "pending", payer, about=said["original_serial_no"])
        return "OK"

    def refunded(self, serial_no: str) -> int:
        """Return the sum of an order's refunds that have not failed."""
        return sum(
            order["amount"]
            for order in self.orders.values()
            if order["kind"] == "refund" and order["about"] == serial_no and order["status"] != "failed"
        )

    def capture(self, said: Row) -> str:  # noqa: C901 -- as many codes as the contract has for it
        """Pay somebody out of a hold."""
        if said["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        payee = self.newest(said["to_user_id"], said["currency"])
        if payee is None:
            return "ACCOUNT_NOT_FOUND"
        held = self.orders.get(said["hold_serial_no"])
        payer = held and held["account"]
        if payee["status"] == "closed" or (payer and payer["status"] == "closed"):
            return "ACCOUNT_CLOSED"
        if held is None or payer is None:
            return "ORDER_NOT_FOUND"
        if payer["status"] == "frozen":
            return "ACCOUNT_FROZEN"
        if payer is payee:
            return "SAME_ACCOUNT"
        if not self._is_active(held):
            return "HOLD_NOT_ACTIVE"
        if held["currency"] != said["currency"]:
            return "CURRENCY_MISMATCH"
        if said["amount"] > held["remaining"]:
            return "AMOUNT_EXCEEDS_ORIGINAL"
        held["remaining"] -= said["amount"]
        payer["reserved"] -= said["amount"]
        payer["balance"] -= said["amount"]
        payee["balance"] += said["amount"]
        if held["remaining"] == 0:
            held["status"] = "captured"
        self._make(said, "succeeded", payer)
        return "OK"

    def release(self, said: Row) -> str:
        """Let the rest of a hold go."""
        held = self.orders.get(said["hold_serial_no"])
        if held is None:
            return "ORDER_NOT_FOUND"
        if not self._is_active(held):
            return "HOLD_NOT_ACTIVE"
        self._make(
            {**said, "amount": held["remaining"], "currency": held["currency"]}, "succeeded", held["account"]
        )
        self._let_go(held, "released")
        return "OK"

    def _payer(self, said: Row, *, may_be_frozen: bool = False) -> Row | str:
        if said["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        account = self.newest(said["user_id"], said["currency"])
        if account is None:
            return "ACCOUNT_NOT_FOUND"
        if account["status"] == "closed":
            return "ACCOUNT_CLOSED"
        if account["status"] == "frozen" and not may_be_frozen:
            return "ACCOUNT_FROZEN"
        return account

    def _is_active(self, order: Row) -> bool:
        return bool(order["kind"] == "hold" and order["status"] == "active" and order["expires"] > self.now)

    def _let_go(self, held: Row, status: str) -> None:
        held["account"]["reserved"] -= held["remaining"]
        held["remaining"], held["status"] = 0, status

    def _make(self, said: Row, status: str, account: Row, **more: Any) -> None:
        kind = said["type"].split(".")[1]
        named = {name: said[name] for name in ("amount", "currency")}
        self.orders[said["serial_no"]] = {"kind": kind, "status": status, "account": account, **named, **more}

    # Results, and the time

    def hear(self, said: Row) -> str:
        """Do what a result says, and return its code; one without an order waits for it, the last time in vain."""
        order = self.orders.get(said["payment_order_no"])
        if order is None:
            if said["attempts"] < len(WAITS):
                due = self.now + WAITS[said["attempts"]]
                self.parked.append({**said, "attempts": said["attempts"] + 1, "due": due})
            return "ORDER_NOT_FOUND"
        account, is_paid = order["account"], said["status"] == "succeeded"
        if order["kind"] not in {"recharge", "withdraw", "refund"}:
            return "ORDER_NOT_FOUND"
        is_recharge = order["kind"] == "recharge"
        if is_recharge and is_paid and order["status"] != "succeeded" and account["status"] == "closed":
            return "ACCOUNT_CLOSED"
        if order["currency"] != said["currency"]:
            return "CURRENCY_MISMATCH"
        if order["amount"] != said["amount"]:
            return "AMOUNT_MISMATCH"
        if said["status"] in {"unknown", order["status"]}:
            return "OK"
        return self._hear_of_recharge(order, said) if is_recharge else self._hear_of_payout(order, said)

    def _hear_of_recharge(self, order: Row, said: Row) -> str:
        if order["status"] == "succeeded":
            return "CONTRADICTING_RESULT"
        if said["status"] == "succeeded":
            order["account"]["balance"] += order["amount"]
            order["status"] = "succeeded"
        elif order["status"] == "pending":
            order["status"] = "failed"
        return "OK"

    def _hear_of_payout(self, order: Row, said: Row) -> str:
        if order["status"] != "pending":
            return "CONTRADICTING_RESULT"
        order["account"]["reserved"] -= order["amount"]
        if said["status"] == "succeeded":
            order["account"]["balance"] -= order["amount"]
        order["status"] = said["status"]
        return "OK"

    def pass_time(self, by: timedelta, *, seen: bool) -> None:
        """Be later; if it is `seen`, look at what waits: results without an order first, then orders."""
        self.now += by
        if not seen:
            return
        due = [item for item in self.parked if item["due"] <= self.now]
        self.parked = [item for item in self.parked if item["due"] > self.now]
        for item in due:
            self.hear(item)
        for order in self.orders.values():
            if order.get("expires", self.now) <= self.now:
                if order["kind"] == "recharge" and order["status"] == "pending":
                    order["status"] = "expired"
                if order["kind"] == "hold" and order["status"] == "active":
                    self._let_go(order, "expired")
