"""The faults that the wallet survives: number, fault, correct outcome. docs/faults.md shows them with their tests."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Row(NamedTuple):
    """A fault, and what is correct when it happens."""

    fault: str
    correct: str


MATRIX: Final[Mapping[int, Row]] = MappingProxyType(
    {
        1: Row(
            "SIGKILL after the commit, before the acknowledgement",
            "redelivered, recognised, acknowledged; its events are published once more at most, with the same event_id",
        ),
        2: Row("SIGKILL before the commit", "redelivered, applied once"),
        3: Row("one poison message in a batch", "it is set aside with its reason; the others are applied"),
        4: Row(
            "a message that kills the process",
            "set aside after three deaths; its neighbours are applied",
        ),
        5: Row(
            "a worker frozen past its heartbeat, then continued",
            "its late commit is deduplicated or refused; its late acknowledgements do no harm",
        ),
        6: Row("the broker is restarted or killed", "back within 60 s, consumers too"),
        7: Row(
            "the broker is away for ten minutes", "the worker lives, reports itself unready, and recovers"
        ),
        8: Row(
            "a queue is deleted, or the broker cancels a consumer",
            "consuming again, or the worker ends with a status other than 0 and a sentence",
        ),
        9: Row(
            "connections to the broker are reset, or packets vanish",
            "found within about 35 s, recovered",
        ),
        10: Row(
            "connections to PostgreSQL are reset, or packets vanish",
            "bounded by time limits; consuming pauses; no message is returned or set aside",
        ),
        11: Row(
            "PostgreSQL is restarted or killed, or its disk is full",
            "the worker waits; no attempt is counted",
        ),
        12: Row("the connection is lost during COMMIT", "unknown; the redelivery decides"),
        13: Row(
            "deadlock, serialization failure, lost race",
            "tried again inside, a bounded number of times; no attempt is counted",
        ),
        14: Row("duplicates, also at once on two workers", "one effect; the others get the stored outcome"),
        15: Row("results before their command, results reordered", "never lost, and never waiting for ever"),
        16: Row(
            "the same serial number with other content", "SERIAL_CONFLICT; the stored outcome is untouched"
        ),
        17: Row(
            "bytes that are no message of the contract",
            "a dead letter at once, byte for byte; the worker goes on",
        ),
        18: Row(
            "the dead-letter exchange or queue is missing",
            "nothing is lost: kept at the source, with an alarm",
        ),
        19: Row(
            "the keeper is killed after the insert, before the acknowledgement", "one record of the letter"
        ),
        20: Row(
            "a replay is ordered twice, by two operators, or killed half-way",
            "at most one effect; the second operator is told why",
        ),
        21: Row("a replay of what was applied meanwhile", "the stored outcome; the letter is resolved"),
        22: Row(
            "a message is unroutable, or its confirm is missing",
            "kept in the outbox and sent again, with an alarm",
        ),
        23: Row("memory or disk alarm of the broker", "publishing waits; consuming and acknowledging go on"),
        24: Row("a clock jumps an hour", "deduplication and order are unaffected"),
        25: Row("rolling restart under load with full prefetch", "drained; no attempt is counted"),
        26: Row(
            "a forged or missing signature, an unknown key, an edited body",
            "refused with a line in the security log; nothing moves",
        ),
        27: Row("a backlog of a million messages", "steady memory, steady rate"),
        28: Row("every message about one account", "rate within 10 % of the spread case; nobody starves"),
        29: Row(
            "a node of three brokers is killed, the leader of the queues", "the others go on within seconds"
        ),
        30: Row(
            "all three brokers are killed in turn, each when the one before is back", "the same each time"
        ),
        31: Row("two of three brokers are away", "everything waits, no worker ends, and goes on by itself"),
        32: Row("a broker of three is frozen", "it is given up; the others go on, and it joins them again"),
        33: Row(
            "the primary database is killed, and its synchronous standby promoted", "followed within seconds"
        ),
        34: Row(
            "the primary database falls silent, the standby is promoted, the old primary speaks again",
            "given up within 20 s, and never gone back to",
        ),
        35: Row(
            "the synchronous standby is away",
            "commits wait; nothing is acknowledged or told that it does not have",
        ),
        36: Row("the same, and then the standby is promoted", "every acknowledged outcome is there, once"),
        37: Row(
            "what stands of a dispute, said in all orders, repeated, to two workers",
            "what the highest sequence says, once",
        ),
        38: Row(
            "a chargeback is delivered again after its commit", "a duplicate; what it lacked is lent once"
        ),
        39: Row("a reversal before its order, or before its success", "it waits, and is never lost"),
        40: Row(
            "a chargeback and a transfer out of one account at once, on two workers",
            "no overdraft; a debt from the chargeback only",
        ),
        41: Row(
            "a chargeback while the account is being closed",
            "a debt on the closed account, or the closing refused",
        ),
        42: Row(
            "a payout fails while a chargeback comes",
            "what returns to the account pays the debt in the same commit",
        ),
        43: Row(
            "two refunds and a chargeback of one recharge at once",
            "refunds up to what came; the gateway's word stands",
        ),
        44: Row(
            "instructions swapped, repeated, and after the success",
            "the highest revision is kept; none after the end",
        ),
        45: Row(
            "a recharge expires while instructions move its end", "either comes first; late money is credited"
        ),
        46: Row("a cancel races the success, on two workers", "one status; the money is credited once"),
    }
)
