"""The wire contract as code: messages, values, codes, money and signatures, and no I/O.

Start with `commands`, `payments`, `events` and `queries` for the messages, `parse` and `encode` for
the way between bytes and messages. `json/` and `asyncapi.yaml` are generated from here by
`python -m wallet_schemas.generate`.
"""
