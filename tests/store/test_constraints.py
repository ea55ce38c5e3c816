"""Every constraint has a name of ours, and refuses what its name says."""

from typing import Any

import asyncpg
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

TABLES = (
    "accounts",
    "api_keys",
    "currencies",
    "commands",
    "entries",
    "gateway_refs",
    "operator_keys",
    "operator_log",
    "operators",
    "orders",
    "outbox",
    "parked_results",
    "payment_instructions",
    "payment_results",
    "reversal_messages",
    "reversals",
    "suspects",
    "webhook_cursor",
    "webhook_deliveries",
    "webhook_endpoints",
    "webhook_secrets",
)

# One row of each kind, all in order: what the rows below break one thing of.
ROWS: dict[str, dict[str, str]] = {
    "user": {
        "account_id": "1",
        "kind": "'user'",
        "account_no": "'2026010204815162341'",
        "user_id": "'u-1'",
        "account_type": "'basic'",
        "currency": "'TWD'",
        "status": "'active'",
        "balance": "100",
        "reserved": "40",
        "line_no": "1",
        "created_at": "now()",
        "updated_at": "now()",
    },
    "lane": {
        "account_id": "2",
        "kind": "'system'",
        "system_name": "'clearing'",
        "lane": "0",
        "currency": "'TWD'",
        "status": "'active'",
        "balance": "-100",
        "reserved": "0",
        "line_no": "1",
        "created_at": "now()",
        "updated_at": "now()",
    },
    "commands": {
        "serial_no": "'R-1'",
        "command_type": "'order.recharge.v1'",
        "fingerprint": "decode(repeat('ab', 32), 'hex')",
        "content": "'{}'",
        "status": "'applied'",
        "code": "'OK'",
        "result": "'{}'",
        "created_at": "now()",
    },
    "orders": {
        "order_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913'",
        "serial_no": "'R-1'",
        "order_type": "'recharge'",
        "account_id": "1",
        "amount": "100",
        "currency": "'TWD'",
        "status": "'succeeded'",
        "code": "'OK'",
        "channel": "'card'",
        "late": "true",
        "transacted_at": "now()",
        "created_at": "now()",
        "updated_at": "now()",
    },
    "entries": {
        "account_id": "1",
        "line_no": "1",
        "order_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913'",
        "direction": "'credit'",
        "amount": "100",
        "balance_before": "0",
        "balance_after": "100",
        "created_at": "now()",
    },
    "payment_results": {
        "payment_order_no": "'R-1'",
        "fingerprint": "decode(repeat('ab', 32), 'hex')",
        "status": "'succeeded'",
        "amount": "'1.00'",
        "currency": "'TWD'",
        "gateway_ref": "'gw-1'",
        "occurred_at": "now()",
        "received_at": "now()",
        "processing": "'processed'",
        "code": "'OK'",
    },
    "reversals": {
        "order_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913'",
        "reversal_ref": "'dp-1'",
        "reversal_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b9aa'",
        "kind": "'dispute'",
        "status": "'moved'",
        "sequence": "1",
        "amount": "100",
        "moved": "100",
        "fingerprint": "decode(repeat('ab', 32), 'hex')",
        "created_at": "now()",
        "updated_at": "now()",
    },
    "reversal_messages": {
        "payment_order_no": "'R-1'",
        "fingerprint": "decode(repeat('ab', 32), 'hex')",
        "reversal_ref": "'dp-1'",
        "kind": "'dispute'",
        "sequence": "1",
        "status": "'moved'",
        "amount": "'1.00'",
        "currency": "'TWD'",
        "occurred_at": "now()",
        "received_at": "now()",
        "processing": "'processed'",
        "code": "'OK'",
    },
    "parked_results": {
        "payment_order_no": "'R-1'",
        "exchange": "''",
        "routing_key": "''",
        "properties": "''",
        "body": "''",
        "attempts": "1",
        "first_seen": "now()",
        "due_at": "now()",
    },
    "outbox": {
        "message_id": "'019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e'",
        "exchange": "''",
        "routing_key": "''",
        "body": "''",
        "created_at": "now()",
        "publish_after": "now()",
    },
    "payment_instructions": {
        "order_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913'",
        "revision": "1",
        "fingerprint": "decode(repeat('ab', 32), 'hex')",
        "body": "'{}'",
        "received_at": "now()",
    },
    "gateway_refs": {
        "channel": "'card'",
        "gateway_ref": "'gw-1'",
        "order_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913'",
    },
    "suspects": {"fingerprint": "decode(repeat('ab', 32), 'hex')", "attempts": "1", "updated_at": "now()"},
    "currencies": {"currency": "'TWD'", "digits": "2"},
    "api_keys": {
        "key_id": "'abcdefghijkl'",
        "client": "'shop'",
        "hash": "decode(repeat('ab', 32), 'hex')",
        "scopes": "ARRAY['orders:read']",
        "created_at": "now()",
        "created_by": "'ann'",
    },
    "webhook_endpoints": {
        "endpoint_id": "1",
        "client": "'shop'",
        "name": "'orders'",
        "url": "'https://shop.example/'",
        "kinds": "ARRAY['order.*']",
        "state": "'enabled'",
        "created_at": "now()",
        "created_by": "'ann'",
        "updated_at": "now()",
    },
    "webhook_secrets": {"secret_id": "1", "endpoint_id": "1", "secret": "'whsec_c2VjcmV0'"},
    "webhook_deliveries": {
        "delivery_id": "1",
        "endpoint_id": "1",
        "event_id": "'e-1'",
        "kind": "'order.pending'",
        "body": "'{}'",
        "state": "'waiting'",
        "attempts": "0",
        "next_at": "now()",
        "created_at": "now()",
    },
    "webhook_cursor": {"passed": "0", "reader": "'a'", "lease_until": "now()"},
    "operators": {"name": "'ann'", "role": "'operator'"},
    "operator_keys": {
        "key_id": "'0123456789abcdef'",
        "name": "'ann'",
        "algorithm": "'ed25519'",
        "public_key": "decode(repeat('ab', 32), 'hex')",
    },
    "operator_log": {
        "log_id": "1",
        "via": "'cli'",
        "action": "'added'",
        "name": "'ann'",
        "detail": "''",
        "reason": "'she is new'",
    },
}
TABLE_OF = {"user": "accounts", "lane": "accounts"}

# constraint, the row that is there already, and what another one has that must not be
OTHER_USER = {"account_id": "11", "account_no": "'2026010204815162358'", "user_id": "'u-2'"}
OTHER_ENDPOINT = {"endpoint_id": "2", "name": "'accounts'"}
OTHER_SECRET = {"secret_id": "2", "until": "now()"}
OTHER_DELIVERY = {"delivery_id": "2", "event_id": "'e-2'"}
OTHER_LANE = {"account_id": "12", "lane": "1"}
OTHER_COMMAND = {"serial_no": "'R-2'"}
OTHER_ORDER = {"order_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b914'", "serial_no": "'R-2'"}
_UNMOVED = {"transacted_at": "NULL", "late": "false"}
OTHER_REFUND = {
    **OTHER_ORDER,
    **_UNMOVED,
    "order_type": "'refund'",
    "status": "'pending'",
    "about_serial_no": "'R-1'",
    "due_at": "now()",
}
OTHER_TRANSFER = {**OTHER_ORDER, "order_type": "'transfer'", "counter_account_id": "2"}
OTHER_HOLD = {
    **OTHER_ORDER,
    **_UNMOVED,
    "order_type": "'hold'",
    "status": "'active'",
    "remaining": "100",
    "due_at": "now()",
}
OTHER_RELEASE = {**OTHER_ORDER, **_UNMOVED, "order_type": "'release'", "about_serial_no": "'R-1'"}
OTHER_LINE = {"line_no": "2"}
OTHER_KEY = {"key_id": "'abcdefghijkm'"}
OTHER_RESULT = {"payment_order_no": "'R-2'"}
OTHER_REVERSAL = {"reversal_ref": "'dp-2'", "reversal_id": "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b9ab'"}
OTHER_CHARGEBACK = {
    **OTHER_ORDER,
    "order_type": "'chargeback'",
    "about_serial_no": "'R-1'",
    "reversal_ref": "'dp-1'",
    "channel": "''",
}
OTHER_SUSPECT = {"fingerprint": "decode(repeat('cd', 32), 'hex')"}

NOWHERE = "'019b7d4c-6f2e-7c3a-9d41-52c0e4a7b999'"
SHORT = "'\\xabcd'"
OTHER_PERSONS_KEY = {"key_id": "'fedcba9876543210'", "public_key": "decode(repeat('cd', 32), 'hex')"}
VOUCHED = {
    "vouched_by": "'bob'",
    "key_id": "'fedcba9876543210'",
    "signed_at": "now()",
    "proof": "decode(repeat('cd', 64), 'hex')",
}
BREACHES: list[tuple[str, str, dict[str, str]]] = [
    ("accounts_pkey", "user", {**OTHER_USER, "account_id": "1"}),
    ("accounts_account_no_key", "user", {**OTHER_USER, "account_no": "'2026010204815162341'"}),
    ("accounts_open_key", "user", {**OTHER_USER, "user_id": "'u-1'"}),
    ("accounts_open_key", "user", {**OTHER_USER, "user_id": "'u-1'", "status": "'frozen'"}),
    ("accounts_system_key", "lane", {**OTHER_LANE, "lane": "0"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "kind": "'other'"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "kind": "'system'"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "account_no": "NULL"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "user_id": "NULL"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "account_type": "NULL"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "lane": "1"}),
    ("accounts_kind_known", "user", {**OTHER_USER, "system_name": "'clearing'"}),
    ("accounts_kind_known", "lane", {**OTHER_LANE, "kind": "'user'"}),
    ("accounts_kind_known", "lane", {**OTHER_LANE, "system_name": "NULL"}),
    ("accounts_kind_known", "lane", {**OTHER_LANE, "lane": "NULL"}),
    ("accounts_kind_known", "lane", {**OTHER_LANE, "user_id": "'u-1'"}),
    ("accounts_kind_known", "lane", {**OTHER_LANE, "account_type": "'basic'"}),
    ("accounts_kind_known", "lane", {**OTHER_LANE, "account_no": "'2026010204815162358'"}),
    ("accounts_account_no_form", "user", {**OTHER_USER, "account_no": "'202601020481516235'"}),
    ("accounts_account_no_form", "user", {**OTHER_USER, "account_no": "'2026010204815162358 '"}),
    ("accounts_currency_form", "user", {**OTHER_USER, "currency": "'twd'"}),
    ("accounts_currency_form", "lane", {**OTHER_LANE, "currency": "'TWDX'"}),
    ("accounts_status_known", "user", {**OTHER_USER, "status": "'gone'"}),
    ("accounts_no_overdraft", "user", {**OTHER_USER, "balance": "-1", "reserved": "0"}),
    ("accounts_reserved_in_balance", "user", {**OTHER_USER, "reserved": "101"}),
    ("accounts_reserved_in_balance", "user", {**OTHER_USER, "reserved": "-1"}),
    ("accounts_closed_is_empty", "user", {**OTHER_USER, "status": "'closed'", "reserved": "0"}),
    ("accounts_debt_known", "user", {**OTHER_USER, "debt": "-1", "balance": "40"}),
    ("accounts_debt_known", "user", {**OTHER_USER, "debt": "1"}),  # and 60 are available
    ("accounts_debt_known", "user", {**OTHER_USER, "debt": "80", "balance": "100", "reserved": "80"}),
    ("accounts_debt_known", "lane", {**OTHER_LANE, "debt": "1", "balance": "0"}),
    ("accounts_line_no_counts", "user", {**OTHER_USER, "line_no": "-1"}),
    ("commands_pkey", "commands", {}),
    ("commands_fingerprint_form", "commands", {**OTHER_COMMAND, "fingerprint": SHORT}),
    ("commands_status_known", "commands", {**OTHER_COMMAND, "status": "'done'", "code": "'INTERNAL'"}),
    ("commands_applied_is_ok", "commands", {**OTHER_COMMAND, "status": "'refused'"}),
    ("commands_applied_is_ok", "commands", {**OTHER_COMMAND, "code": "'ACCOUNT_EXISTS'"}),
    ("orders_pkey", "orders", {**OTHER_ORDER, "order_id": ROWS["orders"]["order_id"]}),
    ("orders_serial_no_key", "orders", {**OTHER_ORDER, "serial_no": "'R-1'"}),
    ("orders_serial_no_fkey", "orders", {**OTHER_ORDER, "serial_no": "'R-9'"}),
    ("orders_account_id_fkey", "orders", {**OTHER_ORDER, "account_id": "999"}),
    ("orders_type_known", "orders", {**OTHER_ORDER, "order_type": "'gift'"}),
    ("orders_amount_positive", "orders", {**OTHER_ORDER, "amount": "0"}),
    ("orders_currency_form", "orders", {**OTHER_ORDER, "currency": "'TW'"}),
    ("orders_counter_account_id_fkey", "orders", {**OTHER_TRANSFER, "counter_account_id": "999"}),
    ("orders_about_serial_no_fkey", "orders", {**OTHER_REFUND, "about_serial_no": "'R-9'"}),
    ("orders_about_another", "orders", {**OTHER_REFUND, "about_serial_no": "'R-2'"}),
    ("orders_about_another", "orders", {**OTHER_REFUND, "about_serial_no": "NULL"}),
    ("orders_about_another", "orders", {**OTHER_ORDER, "about_serial_no": "'R-1'"}),
    ("orders_about_another", "orders", {**OTHER_CHARGEBACK, "about_serial_no": "NULL"}),
    (
        "orders_about_another",
        "orders",
        {**OTHER_CHARGEBACK, "order_type": "'write_off'", "reversal_ref": "NULL"},
    ),
    ("orders_reversal_ref_known", "orders", {**OTHER_ORDER, "reversal_ref": "'dp-1'"}),
    ("orders_reversal_ref_known", "orders", {**OTHER_CHARGEBACK, "reversal_ref": "''"}),
    ("orders_reversal_ref_known", "orders", {**OTHER_CHARGEBACK, "reversal_ref": "repeat('x', 65)"}),
    ("orders_payee_where_paid", "orders", {**OTHER_TRANSFER, "counter_account_id": "NULL"}),
    ("orders_payee_where_paid", "orders", {**OTHER_ORDER, "counter_account_id": "2"}),
    ("orders_payee_is_another", "orders", {**OTHER_TRANSFER, "counter_account_id": "1"}),
    ("orders_remaining_of_hold", "orders", {**OTHER_HOLD, "remaining": "NULL"}),
    ("orders_remaining_of_hold", "orders", {**OTHER_HOLD, "remaining": "101"}),
    ("orders_remaining_of_hold", "orders", {**OTHER_HOLD, "remaining": "-1"}),
    ("orders_remaining_of_hold", "orders", {**OTHER_HOLD, "remaining": "0"}),
    ("orders_remaining_of_hold", "orders", {**OTHER_HOLD, "status": "'released'"}),
    ("orders_remaining_of_hold", "orders", {**OTHER_ORDER, "remaining": "100"}),
    ("orders_waiting_is_due", "orders", {**OTHER_HOLD, "due_at": "NULL"}),
    ("orders_waiting_is_due", "orders", {**OTHER_REFUND, "due_at": "NULL"}),
    ("orders_waiting_is_due", "orders", {**OTHER_ORDER, "due_at": "now()"}),
    ("orders_metadata_form", "orders", {**OTHER_ORDER, "metadata": "'[]'"}),
    ("orders_failure_of_failed", "orders", {**OTHER_ORDER, "failure_code": "'declined'"}),
    ("orders_failure_of_failed", "orders", {**OTHER_REFUND, "failure_reason": "'why'"}),
    ("orders_received_known", "orders", {**OTHER_ORDER, "received": "0"}),
    ("orders_received_known", "orders", {**OTHER_ORDER, "received": "100"}),
    ("orders_received_known", "orders", {**OTHER_ORDER, **_UNMOVED, "status": "'failed'", "received": "99"}),
    ("orders_received_known", "orders", {**OTHER_REFUND, "received": "99"}),
    ("orders_cancelling_known", "orders", {**OTHER_ORDER, "cancelling": "true"}),
    ("payment_instructions_pkey", "payment_instructions", {}),
    ("payment_instructions_order_id_fkey", "payment_instructions", {"order_id": NOWHERE}),
    ("payment_instructions_revision_counts", "payment_instructions", {"order_id": NOWHERE, "revision": "0"}),
    (
        "payment_instructions_fingerprint_form",
        "payment_instructions",
        {"order_id": NOWHERE, "fingerprint": SHORT},
    ),
    ("gateway_refs_pkey", "gateway_refs", {}),
    ("gateway_refs_order_id_fkey", "gateway_refs", {"gateway_ref": "'gw-2'", "order_id": NOWHERE}),
    ("orders_asked_counts", "orders", {**OTHER_ORDER, "asked": "-1"}),
    ("orders_status_known", "orders", {**OTHER_REFUND, "status": "'active'"}),
    ("orders_status_known", "orders", {**OTHER_REFUND, "status": "'cancelled'", "due_at": "NULL"}),
    ("orders_status_known", "orders", {**OTHER_REFUND, "status": "'expired'", "due_at": "NULL"}),
    ("orders_status_known", "orders", {**OTHER_TRANSFER, **_UNMOVED, "status": "'pending'"}),
    ("orders_status_known", "orders", {**OTHER_RELEASE, "status": "'released'"}),
    ("orders_succeeded_has_moved", "orders", {**OTHER_RELEASE, "transacted_at": "now()"}),
    (
        "orders_status_known",
        "orders",
        {**OTHER_ORDER, "status": "'active'", "transacted_at": "NULL", "late": "false"},
    ),
    ("orders_succeeded_has_moved", "orders", {**OTHER_ORDER, "transacted_at": "NULL"}),
    ("orders_succeeded_has_moved", "orders", {**OTHER_ORDER, "status": "'pending'", "late": "false"}),
    ("orders_late_has_moved", "orders", {**OTHER_ORDER, "status": "'failed'", "transacted_at": "NULL"}),
    ("entries_pkey", "entries", {}),
    ("entries_account_id_fkey", "entries", {**OTHER_LINE, "account_id": "999"}),
    ("entries_order_id_fkey", "entries", {**OTHER_LINE, "order_id": OTHER_ORDER["order_id"]}),
    ("entries_direction_known", "entries", {**OTHER_LINE, "direction": "'up'", "balance_after": "-100"}),
    ("entries_amount_positive", "entries", {**OTHER_LINE, "amount": "0", "balance_after": "0"}),
    ("entries_amount_positive", "entries", {**OTHER_LINE, "amount": "-1", "balance_after": "-1"}),
    ("entries_line_no_counts", "entries", {**OTHER_LINE, "line_no": "0"}),
    ("entries_arithmetic", "entries", {**OTHER_LINE, "balance_after": "101"}),
    ("entries_arithmetic", "entries", {**OTHER_LINE, "direction": "'debit'"}),
    ("payment_results_pkey", "payment_results", {}),
    ("payment_results_fingerprint_form", "payment_results", {**OTHER_RESULT, "fingerprint": SHORT}),
    ("payment_results_status_known", "payment_results", {**OTHER_RESULT, "status": "'pending'"}),
    ("payment_results_processing_known", "payment_results", {**OTHER_RESULT, "processing": "'done'"}),
    ("reversals_pkey", "reversals", {**OTHER_REVERSAL, "reversal_ref": "'dp-1'"}),
    ("reversals_reversal_id_key", "reversals", {"reversal_ref": "'dp-2'"}),
    ("reversals_order_id_fkey", "reversals", {**OTHER_REVERSAL, "order_id": OTHER_ORDER["order_id"]}),
    ("reversals_kind_known", "reversals", {**OTHER_REVERSAL, "kind": "'complaint'"}),
    ("reversals_status_known", "reversals", {**OTHER_REVERSAL, "status": "'won'", "moved": "0"}),
    ("reversals_moved_as_status", "reversals", {**OTHER_REVERSAL, "status": "'opened'"}),
    ("reversals_moved_as_status", "reversals", {**OTHER_REVERSAL, "moved": "99"}),
    ("reversals_amount_positive", "reversals", {**OTHER_REVERSAL, "amount": "0", "moved": "0"}),
    ("reversals_sequence_counts", "reversals", {**OTHER_REVERSAL, "sequence": "0"}),
    ("reversals_fingerprint_form", "reversals", {**OTHER_REVERSAL, "fingerprint": SHORT}),
    ("reversal_messages_pkey", "reversal_messages", {}),
    ("reversal_messages_fingerprint_form", "reversal_messages", {**OTHER_RESULT, "fingerprint": SHORT}),
    ("reversal_messages_status_known", "reversal_messages", {**OTHER_RESULT, "status": "'won'"}),
    ("reversal_messages_processing_known", "reversal_messages", {**OTHER_RESULT, "processing": "'done'"}),
    ("parked_results_pkey", "parked_results", {"parked_id": "(SELECT max(parked_id) FROM parked_results)"}),
    ("parked_results_attempts_count", "parked_results", {"attempts": "0"}),
    ("outbox_pkey", "outbox", {}),
    ("suspects_pkey", "suspects", {}),
    ("suspects_fingerprint_form", "suspects", {**OTHER_SUSPECT, "fingerprint": SHORT}),
    ("api_keys_pkey", "api_keys", {}),
    ("commands_sent_by_length", "commands", {"serial_no": "'R-2'", "sent_by": "''"}),
    ("commands_sent_by_length", "commands", {"serial_no": "'R-2'", "sent_by": "repeat('x', 513)"}),
    ("currencies_pkey", "currencies", {}),
    ("currencies_currency_form", "currencies", {"currency": "'Twd'"}),
    ("currencies_digits_range", "currencies", {"currency": "'USD'", "digits": "7"}),
    ("api_keys_key_id_form", "api_keys", {"key_id": "'abcdefghijk1'"}),
    ("api_keys_client_form", "api_keys", {**OTHER_KEY, "client": "'Shop'"}),
    ("api_keys_hash_is_sha256", "api_keys", {**OTHER_KEY, "hash": SHORT}),
    ("api_keys_has_scopes", "api_keys", {**OTHER_KEY, "scopes": "ARRAY[]::text[]"}),
    ("api_keys_limits_positive", "api_keys", {**OTHER_KEY, "rate": "0"}),
    ("api_keys_limits_positive", "api_keys", {**OTHER_KEY, "in_flight": "0"}),
    ("api_keys_revoked_by_somebody", "api_keys", {**OTHER_KEY, "revoked_at": "now()", "revoked_by": "'ann'"}),
    ("api_keys_revoked_by_somebody", "api_keys", {**OTHER_KEY, "revoked_by": "'ann'", "revoked_why": "'x'"}),
    ("webhook_endpoints_pkey", "webhook_endpoints", {}),
    ("webhook_endpoints_name_once", "webhook_endpoints", {"endpoint_id": "2"}),
    ("webhook_endpoints_client_form", "webhook_endpoints", {**OTHER_ENDPOINT, "client": "'Shop'"}),
    ("webhook_endpoints_name_form", "webhook_endpoints", {**OTHER_ENDPOINT, "name": "'a b'"}),
    (
        "webhook_endpoints_url_is_https",
        "webhook_endpoints",
        {**OTHER_ENDPOINT, "url": "'http://shop.example/'"},
    ),
    ("webhook_endpoints_has_kinds", "webhook_endpoints", {**OTHER_ENDPOINT, "kinds": "ARRAY[]::text[]"}),
    ("webhook_endpoints_state_known", "webhook_endpoints", {**OTHER_ENDPOINT, "state": "'asleep'"}),
    (
        "webhook_endpoints_disabled_for_a_reason",
        "webhook_endpoints",
        {**OTHER_ENDPOINT, "state": "'disabled'"},
    ),
    ("webhook_endpoints_disabled_for_a_reason", "webhook_endpoints", {**OTHER_ENDPOINT, "why": "'x'"}),
    ("webhook_secrets_pkey", "webhook_secrets", {}),
    ("webhook_secrets_newest", "webhook_secrets", {"secret_id": "2"}),
    ("webhook_secrets_endpoint_id_fkey", "webhook_secrets", {**OTHER_SECRET, "endpoint_id": "7"}),
    ("webhook_secrets_secret_form", "webhook_secrets", {**OTHER_SECRET, "secret": "'secret'"}),
    ("webhook_deliveries_pkey", "webhook_deliveries", {}),
    ("webhook_deliveries_endpoint_id_fkey", "webhook_deliveries", {**OTHER_DELIVERY, "endpoint_id": "7"}),
    ("webhook_deliveries_event_once", "webhook_deliveries", {"delivery_id": "2"}),
    ("webhook_deliveries_event_id_length", "webhook_deliveries", {**OTHER_DELIVERY, "event_id": "''"}),
    ("webhook_deliveries_state_known", "webhook_deliveries", {**OTHER_DELIVERY, "state": "'lost'"}),
    ("webhook_deliveries_attempts_counted", "webhook_deliveries", {**OTHER_DELIVERY, "attempts": "1"}),
    ("webhook_deliveries_status_range", "webhook_deliveries", {**OTHER_DELIVERY, "status": "7"}),
    (
        "webhook_deliveries_answer_length",
        "webhook_deliveries",
        {**OTHER_DELIVERY, "answer": "repeat('x', 1025)"},
    ),
    ("webhook_cursor_pkey", "webhook_cursor", {}),
    ("webhook_cursor_is_one", "webhook_cursor", {"single": "false"}),
    ("webhook_cursor_passed_counted", "webhook_cursor", {"passed": "-1"}),
    ("operators_pkey", "operators", {}),
    *(("operators_name_form", "operators", {"name": name}) for name in ("'Ann'", "''", "'a b'")),
    ("operators_role_known", "operators", {"name": "'bob'", "role": "'owner'"}),
    ("operator_keys_pkey", "operator_keys", {"public_key": "decode(repeat('cd', 32), 'hex')"}),
    ("operator_keys_name_fkey", "operator_keys", {**OTHER_PERSONS_KEY, "name": "'nobody'"}),
    ("operator_keys_public_key_key", "operator_keys", {"key_id": OTHER_PERSONS_KEY["key_id"]}),
    ("operator_keys_key_id_form", "operator_keys", {**OTHER_PERSONS_KEY, "key_id": "'0123456789ABCDEF'"}),
    ("operator_keys_algorithm_known", "operator_keys", {**OTHER_PERSONS_KEY, "algorithm": "'rsa'"}),
    (
        "operator_keys_ed25519_length",
        "operator_keys",
        {**OTHER_PERSONS_KEY, "public_key": "decode('cd', 'hex')"},
    ),
    ("operator_keys_passkey_whole", "operator_keys", {**OTHER_PERSONS_KEY, "algorithm": "'webauthn'"}),
    ("operator_keys_passkey_whole", "operator_keys", {**OTHER_PERSONS_KEY, "rp_id": "'wallet.example'"}),
    ("operator_log_pkey", "operator_log", {}),
    ("operator_log_vouched_whole", "operator_log", {"log_id": "2", "vouched_by": "'bob'"}),
    ("operator_log_vouched_by_another", "operator_log", {"log_id": "2", **VOUCHED, "vouched_by": "'ann'"}),
]


async def _insert(connection: asyncpg.Connection, kind: str, changes: dict[str, str]) -> None:
    row = {**ROWS[kind], **changes}
    overriding = "OVERRIDING SYSTEM VALUE" if {"parked_id", "log_id"} & row.keys() else ""
    await connection.execute(
        f"INSERT INTO {TABLE_OF.get(kind, kind)} ({', '.join(row)}) {overriding} VALUES ({', '.join(row.values())})"  # noqa: S608
    )


async def _good_rows(connection: asyncpg.Connection) -> None:
    for kind in ROWS:
        await _insert(connection, kind, {})
    await _insert(connection, "commands", OTHER_COMMAND)


@pytest.mark.parametrize(
    ("constraint", "kind", "changes"),
    [pytest.param(*breach, id=f"{breach[0]}-{number}") for number, breach in enumerate(BREACHES)],
)
async def test_a_constraint_refuses_what_its_name_says(
    rolled_back: asyncpg.Connection, constraint: str, kind: str, changes: dict[str, str]
) -> None:
    await _good_rows(rolled_back)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await _insert(rolled_back, kind, changes)

    assert refused.value.constraint_name == constraint


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("user", OTHER_USER),
        ("user", {**OTHER_USER, "user_id": "'u-1'", "account_type": "'bonus'"}),
        ("user", {**OTHER_USER, "user_id": "'u-1'", "currency": "'JPY'"}),
        ("user", {**OTHER_USER, "user_id": "'u-1'", "status": "'closed'", "balance": "0", "reserved": "0"}),
        ("user", {**OTHER_USER, "balance": str(2**63 - 1)}),
        ("lane", OTHER_LANE),
        ("lane", {**OTHER_LANE, "balance": str(1 - 2**63)}),
        ("orders", OTHER_ORDER),
        ("orders", {**OTHER_ORDER, "status": "'expired'", "transacted_at": "NULL", "late": "false"}),
        ("orders", {**OTHER_ORDER, **_UNMOVED, "status": "'cancelled'"}),
        ("orders", {**OTHER_ORDER, "received": "99", "metadata": "'{}'", "gateway_ref": "'gw-1'"}),
        ("orders", {**OTHER_ORDER, **_UNMOVED, "status": "'failed'", "failure_code": "'declined'"}),
        ("orders", OTHER_REFUND),
        ("orders", {**OTHER_REFUND, "cancelling": "true"}),
        ("gateway_refs", {"gateway_ref": "'gw-2'"}),
        ("gateway_refs", {"channel": "'line_pay'"}),
        ("orders", {**OTHER_REFUND, "status": "'failed'", "due_at": "NULL"}),
        ("orders", OTHER_TRANSFER),
        ("orders", OTHER_HOLD),
        ("orders", {**OTHER_HOLD, "remaining": "1"}),
        ("orders", {**OTHER_HOLD, "status": "'captured'", "remaining": "0", "due_at": "NULL"}),
        ("orders", OTHER_RELEASE),
        ("user", {**OTHER_USER, "balance": "80", "reserved": "80", "debt": "80"}),
        ("user", {**OTHER_USER, "status": "'closed'", "balance": "0", "reserved": "0", "debt": "70"}),
        ("orders", OTHER_CHARGEBACK),
        ("orders", {**OTHER_CHARGEBACK, "order_type": "'payout_return_reversal'"}),
        ("orders", {**OTHER_CHARGEBACK, "order_type": "'repayment'", "reversal_ref": "NULL"}),
        (
            "orders",
            {
                **OTHER_CHARGEBACK,
                "order_type": "'write_off'",
                "reversal_ref": "NULL",
                "about_serial_no": "NULL",
            },
        ),
        ("orders", {**OTHER_ORDER, "order_type": "'adjustment_credit'"}),
        ("reversals", OTHER_REVERSAL),
        ("reversals", {**OTHER_REVERSAL, "status": "'dropped'", "moved": "0"}),
        ("entries", OTHER_LINE),
        ("entries", {**OTHER_LINE, "direction": "'debit'", "balance_after": "-100"}),
        ("payment_results", OTHER_RESULT),
        ("payment_results", OTHER_SUSPECT),
        ("parked_results", {}),
        ("suspects", OTHER_SUSPECT),
        ("api_keys", OTHER_KEY),
        ("webhook_endpoints", OTHER_ENDPOINT),
        ("webhook_endpoints", {**OTHER_ENDPOINT, "state": "'disabled'", "why": "'it is gone'"}),
        ("webhook_secrets", OTHER_SECRET),
        ("operators", {"name": "'bob@shop.example'", "role": "'controller'"}),
        ("operator_keys", OTHER_PERSONS_KEY),
        ("operator_log", {"log_id": "2", **VOUCHED}),
        ("webhook_deliveries", OTHER_DELIVERY),
    ],
)
async def test_what_is_in_order_is_let_in(
    rolled_back: asyncpg.Connection, kind: str, changes: dict[str, str]
) -> None:
    await _good_rows(rolled_back)

    await _insert(rolled_back, kind, changes)


async def test_every_constraint_is_tried_here_and_has_a_name_of_ours(rolled_back: asyncpg.Connection) -> None:
    found = await rolled_back.fetch(
        """
        SELECT c.conname
        FROM pg_constraint c
        JOIN pg_class t ON t.oid = c.conrelid
        WHERE t.relnamespace = 'wallet'::regnamespace AND t.relname <> 'alembic_version'
          AND t.relname NOT LIKE 'dead\\_letter%'  -- those are tried in tests/dead_letters
          AND c.contype <> 'n'  -- NOT NULL has a name only since PostgreSQL 18, and nobody looks for it
        UNION
        SELECT i.relname
        FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_class t ON t.oid = x.indrelid
        WHERE t.relnamespace = 'wallet'::regnamespace AND t.relname <> 'alembic_version' AND x.indisunique
          AND t.relname NOT LIKE 'dead\\_letter%'
        """
    )

    # A name that PostgreSQL had made itself, such as accounts_check1, would not stand in the table above.
    assert {row["conname"] for row in found} == {constraint for constraint, *_ in BREACHES}


async def test_there_are_no_other_tables(rolled_back: asyncpg.Connection) -> None:
    found = await rolled_back.fetch(
        r"SELECT tablename FROM pg_tables WHERE schemaname = 'wallet' AND tablename NOT LIKE 'dead\_letter%'"
    )

    assert sorted(row[0] for row in found) == sorted((*TABLES, "alembic_version"))


async def test_money_is_64_bit_integers_of_minor_units(rolled_back: asyncpg.Connection) -> None:
    found = await rolled_back.fetch(
        """
        SELECT table_name, column_name, data_type
        FROM information_schema.columns
        WHERE table_schema = 'wallet' AND column_name IN
            ('amount', 'moved', 'remaining', 'balance', 'reserved', 'debt', 'line_no',
             'balance_before', 'balance_after')
        """
    )
    types: dict[str, set[Any]] = {}
    for row in found:
        # A result's amount is kept as it was sent: the wallet need not be able to hold it.
        name = "as sent" if row["table_name"] in {"payment_results", "reversal_messages"} else "money"
        types.setdefault(name, set()).add(row["data_type"])

    assert types == {"money": {"bigint"}, "as sent": {"text"}}


async def test_every_time_has_its_zone(rolled_back: asyncpg.Connection) -> None:
    found = await rolled_back.fetch(
        """
        SELECT DISTINCT data_type
        FROM information_schema.columns
        WHERE table_schema = 'wallet' AND data_type LIKE 'timestamp%'
        """
    )

    assert [row[0] for row in found] == ["timestamp with time zone"]
