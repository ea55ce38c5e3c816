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

    def tell(self, row: Row) -> str:
        """Do what a command says, and return the code of its outcome."""
        kind = row["type"].split(".")[1]
        code: str = getattr(self, kind)(row)
        if row["serial_no"] in self.orders:
            for item in self.parked:
                if item["payment_order_no"] == row["serial_no"]:
                    item["due"] = self.now
        return code

    def newest(self, user: str, currency: str) -> Row | None:
        """Return a user's newest account, closed or not."""
        found = self.accounts.get((user, currency))
        return found[-1] if found else None

    # Accounts

    def open(self, row: Row) -> str:
        """Make an account, unless there is one."""
        if row["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        key = (row["user_id"], row["currency"])
        newest = self.newest(*key)
        if newest and newest["status"] != "closed":
            return "ACCOUNT_EXISTS"
        self.accounts.setdefault(key, []).append({"status": "active", "balance": 0, "reserved": 0})
        return "OK"

    def freeze(self, row: Row) -> str:
        """Freeze an account."""
        return self._turn(row, "frozen")

    def unfreeze(self, row: Row) -> str:
        """Unfreeze an account."""
        return self._turn(row, "active")

    def close(self, row: Row) -> str:
        """Close an account that is empty and waits for nothing."""
        return self._turn(row, "closed")

    def _turn(self, row: Row, status: str) -> str:
        if row["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        account = self.newest(row["user_id"], row["currency"])
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

    def recharge(self, row: Row) -> str:
        """Wait for money."""
        payer = self._payer(row, may_be_frozen=True)
        if isinstance(payer, str):
            return payer
        self._make(row, "pending", payer, expires=self.now + OVER_AFTER)
        return "OK"

    def withdraw(self, row: Row) -> str:
        """Reserve money, and wait for it to be paid out."""
        return self._reserve(row, "pending")

    def hold(self, row: Row) -> str:
        """Reserve money for some time."""
        expires = self.now + timedelta(seconds=row["expires_in_seconds"])
        return self._reserve(row, "active", remaining=row["amount"], expires=expires)

    def _reserve(self, row: Row, status: str, **more: Any) -> str:
        payer = self._payer(row)
        if isinstance(payer, str):
            return payer
        if payer["balance"] - payer["reserved"] < row["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["reserved"] += row["amount"]
        self._make(row, status, payer, **more)
        return "OK"

    def transfer(self, row: Row) -> str:
        """Move money at once."""
        if row["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        payer = self.newest(row["user_id"], row["currency"])
        payee = self.newest(row["to_user_id"], row["currency"])
        if payer is None or payee is None:
            return "ACCOUNT_NOT_FOUND"
        if "closed" in {payer["status"], payee["status"]}:
            return "ACCOUNT_CLOSED"
        if payer["status"] == "frozen":
            return "ACCOUNT_FROZEN"
        if payer is payee:
            return "SAME_ACCOUNT"
        if payer["balance"] - payer["reserved"] < row["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["balance"] -= row["amount"]
        payee["balance"] += row["amount"]
        self._make(row, "succeeded", payer)
        return "OK"

    def refund(self, row: Row) -> str:
        """Reserve what a recharge has brought, and wait for it to be given back."""
        if row["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        original = self.orders.get(row["original_serial_no"])
        if original is None:
            return "ORDER_NOT_FOUND"
        payer = original["account"]
        if payer["status"] != "active":
            return "ACCOUNT_CLOSED" if payer["status"] == "closed" else "ACCOUNT_FROZEN"
        if (original["kind"], original["status"]) != ("recharge", "succeeded"):
            return "ORDER_NOT_REFUNDABLE"
        if original["currency"] != row["currency"]:
            return "CURRENCY_MISMATCH"
        if self.refunded(row["original_serial_no"]) + row["amount"] > original["amount"]:
            return "AMOUNT_EXCEEDS_ORIGINAL"
        if payer["balance"] - payer["reserved"] < row["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["reserved"] += row["amount"]
        self._make(row, "pending", payer, about=row["original_serial_no"])
        return "OK"

    def refunded(self, serial_no: str) -> int:
        """Return the sum of an order's refunds that have not failed."""
        return sum(
            order["amount"]
            for order in self.orders.values()
            if order["kind"] == "refund" and order["about"] == serial_no and order["status"] != "failed"
        )

    def capture(self, row: Row) -> str:  # noqa: C901 -- as many codes as the contract has for it
        """Pay somebody out of a hold."""
        if row["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        payee = self.newest(row["to_user_id"], row["currency"])
        if payee is None:
            return "ACCOUNT_NOT_FOUND"
        held = self.orders.get(row["hold_serial_no"])
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
        if held["currency"] != row["currency"]:
            return "CURRENCY_MISMATCH"
        if row["amount"] > held["remaining"]:
            return "AMOUNT_EXCEEDS_ORIGINAL"
        held["remaining"] -= row["amount"]
        payer["reserved"] -= row["amount"]
        payer["balance"] -= row["amount"]
        payee["balance"] += row["amount"]
        if held["remaining"] == 0:
            held["status"] = "captured"
        self._make(row, "succeeded", payer)
        return "OK"

    def release(self, row: Row) -> str:
        """Let the rest of a hold go."""
        held = self.orders.get(row["hold_serial_no"])
        if held is None:
            return "ORDER_NOT_FOUND"
        if not self._is_active(held):
            return "HOLD_NOT_ACTIVE"
        self._make(
            {**row, "amount": held["remaining"], "currency": held["currency"]}, "succeeded", held["account"]
        )
        self._let_go(held, "released")
        return "OK"

    def _payer(self, row: Row, *, may_be_frozen: bool = False) -> Row | str:
        if row["currency"] not in CURRENCIES:
            return "CURRENCY_NOT_SUPPORTED"
        account = self.newest(row["user_id"], row["currency"])
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

    def _make(self, row: Row, status: str, account: Row, **more: Any) -> None:
        kind = row["type"].split(".")[1]
        named = {name: row[name] for name in ("amount", "currency")}
        self.orders[row["serial_no"]] = {"kind": kind, "status": status, "account": account, **named, **more}

    # Results, and the time

    def hear(self, row: Row) -> str:
        """Do what a result says, and return its code; one without an order waits for it, the last time in vain."""
        order = self.orders.get(row["payment_order_no"])
        if order is None:
            if row["attempts"] < len(WAITS):
                due = self.now + WAITS[row["attempts"]]
                self.parked.append({**row, "attempts": row["attempts"] + 1, "due": due})
            return "ORDER_NOT_FOUND"
        account, is_paid = order["account"], row["status"] == "succeeded"
        if order["kind"] not in {"recharge", "withdraw", "refund"}:
            return "ORDER_NOT_FOUND"
        is_recharge = order["kind"] == "recharge"
        if is_recharge and is_paid and order["status"] != "succeeded" and account["status"] == "closed":
            return "ACCOUNT_CLOSED"
        if order["currency"] != row["currency"]:
            return "CURRENCY_MISMATCH"
        if order["amount"] != row["amount"]:
            return "AMOUNT_MISMATCH"
        if row["status"] in {"unknown", order["status"]}:
            return "OK"
        return self._hear_of_recharge(order, row) if is_recharge else self._hear_of_payout(order, row)

    def _hear_of_recharge(self, order: Row, row: Row) -> str:
        if order["status"] == "succeeded":
            return "CONTRADICTING_RESULT"
        if row["status"] == "succeeded":
            order["account"]["balance"] += order["amount"]
            order["status"] = "succeeded"
        elif order["status"] == "pending":
            order["status"] = "failed"
        return "OK"

    def _hear_of_payout(self, order: Row, row: Row) -> str:
        if order["status"] != "pending":
            return "CONTRADICTING_RESULT"
        order["account"]["reserved"] -= order["amount"]
        if row["status"] == "succeeded":
            order["account"]["balance"] -= order["amount"]
        order["status"] = row["status"]
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
