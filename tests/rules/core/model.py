"""A wallet on one page, of plain dicts: what the contract says, without any of the wallet's own code.

It has no serial numbers, no events and no entries; only what each command and each result does to balances,
reserves, debts and statuses, and the code that it gets. It is slow and simple on purpose.
"""

from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]

CURRENCIES = {"TWD", "JPY"}
OVER_AFTER = timedelta(hours=24)
LATE_MAX = timedelta(days=30)
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
        if newest and newest["debt"]:
            return "DEBT_OUTSTANDING"
        self.accounts.setdefault(key, []).append({"status": "active", "balance": 0, "reserved": 0, "debt": 0})
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
        if status == "closed" and (account["balance"] or account["reserved"] or account["debt"]):
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
        self._credit(payee, row["amount"])
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
        given_back = self.refunded(row["original_serial_no"]) + _standing(original)
        if given_back + row["amount"] > original["amount"]:
            return "AMOUNT_EXCEEDS_ORIGINAL"
        if payer["balance"] - payer["reserved"] < row["amount"]:
            return "INSUFFICIENT_BALANCE"
        payer["reserved"] += row["amount"]
        self._make(row, "pending", payer, about=row["original_serial_no"])
        return "OK"

    def refunded(self, serial_no: str) -> int:
        """Return the sum of an order's refunds that have not failed, less what of them was returned."""
        return sum(
            order["amount"] - _standing(order)
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
        self._credit(payee, row["amount"])
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
        self._recover(held["account"])

    def _credit(self, account: Row, amount: int) -> None:
        account["balance"] += amount
        self._recover(account)

    def _debit(self, account: Row, amount: int) -> None:
        """Take money that cannot be refused: what is not available is lent first."""
        lacking = max(0, amount - (account["balance"] - account["reserved"]))
        account["balance"] += lacking - amount
        account["debt"] += lacking

    def _recover(self, account: Row) -> None:
        """Have whatever is available pay what is owed."""
        paid = min(account["debt"], account["balance"] - account["reserved"])
        account["balance"] -= paid
        account["debt"] -= paid

    def _make(self, row: Row, status: str, account: Row, **more: Any) -> None:
        kind = row["type"].split(".")[1]
        named = {name: row[name] for name in ("amount", "currency")}
        made = {"kind": kind, "status": status, "account": account, "refs": {}, **named, **more}
        self.orders[row["serial_no"]] = made

    # Results, and the time

    def hear(self, row: Row) -> str:
        """Do what a result says, and return its code; one without an order waits for it, the last time in vain."""
        order = self.orders.get(row["payment_order_no"])
        if order is None:
            self._park(row)
            return "ORDER_NOT_FOUND"
        account, is_paid = order["account"], row["status"] == "succeeded"
        if order["kind"] not in {"recharge", "withdraw", "refund"}:
            return "ORDER_NOT_FOUND"
        is_recharge = order["kind"] == "recharge"
        is_news = is_recharge and is_paid and order["status"] != "succeeded"
        if is_news and account["status"] == "closed" and account["debt"] < order["amount"]:
            return "ACCOUNT_CLOSED"
        if order["currency"] != row["currency"]:
            return "CURRENCY_MISMATCH"
        if order["amount"] != row["amount"]:
            return "AMOUNT_MISMATCH"
        if is_news and self.now > order.get("ended", self.now) + LATE_MAX:
            return "RESULT_TOO_LATE"
        if row["status"] in {"unknown", order["status"]}:
            return "OK"
        return self._hear_of_recharge(order, row) if is_recharge else self._hear_of_payout(order, row)

    def _hear_of_recharge(self, order: Row, row: Row) -> str:
        if order["status"] == "succeeded":
            return "CONTRADICTING_RESULT"
        if row["status"] == "succeeded":
            self._credit(order["account"], order["amount"])
            order["status"] = "succeeded"
        elif order["status"] == "pending":
            order["status"], order["ended"] = "failed", self.now
        return "OK"

    def _hear_of_payout(self, order: Row, row: Row) -> str:
        if order["status"] != "pending":
            return "CONTRADICTING_RESULT"
        order["account"]["reserved"] -= order["amount"]
        if row["status"] == "succeeded":
            order["account"]["balance"] -= order["amount"]
        self._recover(order["account"])
        order["status"] = row["status"]
        return "OK"

    def _park(self, row: Row) -> None:
        if row["attempts"] < len(WAITS):
            due = self.now + WAITS[row["attempts"]]
            self.parked.append({**row, "attempts": row["attempts"] + 1, "due": due})

    def hear_of_reversal(self, row: Row) -> str:  # noqa: C901 -- as many codes as the contract has for it
        """Move by the difference to what stands now, by the message with the highest sequence."""
        order = self.orders.get(row["payment_order_no"])
        if order is None:
            self._park(row)
            return "ORDER_NOT_FOUND"
        if order["kind"] not in {"recharge", "withdraw", "refund"}:
            return "ORDER_NOT_FOUND"
        is_recharge = order["kind"] == "recharge"
        if row["kind"] not in ({"dispute", "recall"} if is_recharge else {"return"}):
            return "ORDER_NOT_REVERSIBLE"
        if order["status"] != "succeeded":
            if is_recharge or order["status"] == "pending":
                self._park(row)
            return "ORDER_NOT_REVERSIBLE"
        account, known = order["account"], order["refs"].get(row["reversal_ref"])
        is_news = known is None or row["sequence"] > known["sequence"]
        stands = row["amount"] if row["status"] in {"moved", "settled"} else 0
        by = stands - (known["stands"] if known else 0)
        credit = -by if is_recharge else by
        if is_news and credit > account["debt"] and account["status"] == "closed":
            return "ACCOUNT_CLOSED"
        if row["currency"] != order["currency"]:
            return "CURRENCY_MISMATCH"
        if is_news and _standing(order) + by > order["amount"]:
            return "AMOUNT_EXCEEDS_ORIGINAL"
        if known and known["kind"] != row["kind"]:
            return "CONTRADICTING_RESULT"
        if known and not is_news:
            same = known["said"] == (row["status"], row["amount"])
            return "CONTRADICTING_RESULT" if row["sequence"] == known["sequence"] and not same else "OK"
        if credit >= 0:
            self._credit(account, credit)
        else:
            self._debit(account, -credit)
        order["refs"][row["reversal_ref"]] = {
            "kind": row["kind"],
            "sequence": row["sequence"],
            "stands": stands,
            "said": (row["status"], row["amount"]),
        }
        return "OK"

    def pass_time(self, by: timedelta, *, seen: bool) -> None:
        """Be later; if it is `seen`, look at what waits: results without an order first, then orders."""
        self.now += by
        if not seen:
            return
        due = [item for item in self.parked if item["due"] <= self.now]
        self.parked = [item for item in self.parked if item["due"] > self.now]
        for item in due:
            if "reversal_ref" in item:
                self.hear_of_reversal(item)
            else:
                self.hear(item)
        for order in self.orders.values():
            if order.get("expires", self.now) <= self.now:
                if order["kind"] == "recharge" and order["status"] == "pending":
                    order["status"], order["ended"] = "expired", self.now
                if order["kind"] == "hold" and order["status"] == "active":
                    self._let_go(order, "expired")


def _standing(order: Row) -> int:
    """Return what stands moved back of an order."""
    return sum(known["stands"] for known in order["refs"].values())
