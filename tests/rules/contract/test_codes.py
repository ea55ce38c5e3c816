"""The codes are those of the contract, in its order."""

from wallet_schemas.codes import Code


def test_the_codes_stand_in_the_order_of_precedence() -> None:
    contract = """
        OK MALFORMED UNSUPPORTED_TYPE BAD_SIGNATURE NOT_ALLOWED SERIAL_CONFLICT COMMAND_EXPIRED CURRENCY_NOT_SUPPORTED
        ACCOUNT_TYPE_NOT_SUPPORTED AMOUNT_OUT_OF_RANGE
        ACCOUNT_EXISTS DEBT_OUTSTANDING ACCOUNT_NOT_FOUND ACCOUNT_CLOSED ACCOUNT_FROZEN SAME_ACCOUNT ORDER_NOT_FOUND
        KEY_NOT_ALLOWED ORDER_NOT_REFUNDABLE ORDER_NOT_CANCELLABLE ORDER_NOT_REVERSIBLE HOLD_NOT_ACTIVE
        CURRENCY_MISMATCH AMOUNT_MISMATCH AMOUNT_EXCEEDS_ORIGINAL
        LIMIT_EXCEEDED INSUFFICIENT_BALANCE BALANCE_NOT_ZERO ORDERS_PENDING
        GATEWAY_REF_USED PAID_TWICE RESULT_TOO_LATE CONTRADICTING_RESULT INTERNAL
        PAYMENT_FAILED PAYMENT_EXPIRED PAYMENT_CANCELLED
    """

    assert [*Code] == contract.split()


def test_a_code_is_its_own_name_and_has_a_meaning() -> None:
    for code in Code:
        assert code.name == code.value == f"{code}"
        assert Code(code.value) is code
        assert code.meaning
