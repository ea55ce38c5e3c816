"""Operators and their public keys, which only the database's owner writes, and what they have signed."""

from alembic import op
from sqlalchemy import text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE operators (
        name       text        NOT NULL,
        role       text        NOT NULL,
        added_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
        revoked_at timestamptz,
        CONSTRAINT operators_pkey PRIMARY KEY (name),
        CONSTRAINT operators_name_form CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
        CONSTRAINT operators_role_known CHECK (role IN ('viewer', 'operator', 'approver', 'controller'))
    )
    """,
    # `rp_id` and `origin` are where a passkey may be used: the name and the address of the console.
    """
    CREATE TABLE operator_keys (
        key_id        text        NOT NULL,
        name          text        NOT NULL,
        algorithm     text        NOT NULL,
        public_key    bytea       NOT NULL,
        credential_id bytea,
        rp_id         text,
        origin        text,
        added_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
        revoked_at    timestamptz,
        CONSTRAINT operator_keys_pkey PRIMARY KEY (key_id),
        CONSTRAINT operator_keys_name_fkey FOREIGN KEY (name) REFERENCES operators,
        CONSTRAINT operator_keys_public_key_key UNIQUE (public_key),  -- one key is one person
        CONSTRAINT operator_keys_key_id_form CHECK (key_id ~ '^[0-9a-f]{16}$'),
        CONSTRAINT operator_keys_algorithm_known CHECK (algorithm IN ('ed25519', 'webauthn')),
        CONSTRAINT operator_keys_ed25519_length CHECK (algorithm <> 'ed25519' OR octet_length(public_key) = 32),
        CONSTRAINT operator_keys_passkey_whole CHECK (
            num_nonnulls(credential_id, rp_id, origin) = CASE WHEN algorithm = 'webauthn' THEN 3 ELSE 0 END
        )
    )
    """,
    # Who made whom an operator. `login` is the database's own word; `vouched_by` has signed, with `key_id`.
    """
    CREATE TABLE operator_log (
        log_id     bigint      GENERATED ALWAYS AS IDENTITY,
        at         timestamptz NOT NULL DEFAULT clock_timestamp(),
        login      text        NOT NULL DEFAULT session_user,
        via        text        NOT NULL,
        action     text        NOT NULL,
        name       text        NOT NULL,
        detail     text        NOT NULL,
        reason     text        NOT NULL,
        vouched_by text,
        key_id     text,
        signed_at  timestamptz,
        proof      bytea,
        CONSTRAINT operator_log_pkey PRIMARY KEY (log_id),
        CONSTRAINT operator_log_vouched_whole CHECK (num_nonnulls(vouched_by, key_id, signed_at, proof) IN (0, 4)),
        CONSTRAINT operator_log_vouched_by_another CHECK (vouched_by <> name)
    )
    """,
    # What a person has signed of a plan: whoever made it asks, and another approves. A keeper checks both.
    """
    CREATE TABLE dead_letter_signatures (
        token     text        NOT NULL,
        purpose   text        NOT NULL,
        name      text        NOT NULL,
        key_id    text        NOT NULL,
        digest    bytea       NOT NULL,
        signed_at timestamptz NOT NULL,
        proof     bytea       NOT NULL,
        reason    text        NOT NULL,
        via       text        NOT NULL,
        login     text        NOT NULL DEFAULT session_user,
        CONSTRAINT dead_letter_signatures_pkey PRIMARY KEY (token, purpose),
        CONSTRAINT dead_letter_signatures_token_fkey FOREIGN KEY (token) REFERENCES dead_letter_plans,
        CONSTRAINT dead_letter_signatures_name_fkey FOREIGN KEY (name) REFERENCES operators,
        CONSTRAINT dead_letter_signatures_key_id_fkey FOREIGN KEY (key_id) REFERENCES operator_keys,
        CONSTRAINT dead_letter_signatures_two_people UNIQUE (token, name),
        CONSTRAINT dead_letter_signatures_two_keys UNIQUE (token, key_id),
        CONSTRAINT dead_letter_signatures_purpose_known CHECK (purpose IN ('request', 'approval')),
        CONSTRAINT dead_letter_signatures_digest_length CHECK (octet_length(digest) = 32),
        CONSTRAINT dead_letter_signatures_proof_length CHECK (octet_length(proof) BETWEEN 64 AND 8192)
    )
    """,
    """
    CREATE FUNCTION signed_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'what was signed or logged stays: % on % is not allowed', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER operator_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_log
        FOR EACH STATEMENT EXECUTE FUNCTION signed_is_final()
    """,
    """
    CREATE TRIGGER dead_letter_signatures_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_signatures
        FOR EACH STATEMENT EXECUTE FUNCTION signed_is_final()
    """,
    "ALTER TABLE operator_log ENABLE ALWAYS TRIGGER operator_log_append_only",
    "ALTER TABLE dead_letter_signatures ENABLE ALWAYS TRIGGER dead_letter_signatures_append_only",
)

# The database cannot check a signature; whoever executes does. It checks who signs, which plan, and when.
SIGN = """
    CREATE FUNCTION dead_letter_plan_sign(
        p_token text, p_purpose text, p_digest bytea, p_name text, p_key_id text, p_at timestamptz, p_proof bytea,
        p_reason text, p_via text
    ) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    DECLARE
        plan record;
        found_role text;
    BEGIN
        SELECT token, operation_id, expires_at, made_by, letter_ids
        INTO plan
        FROM dead_letter_plans
        WHERE token = p_token
        FOR NO KEY UPDATE;
        IF plan.token IS NULL OR plan.operation_id IS NOT NULL OR plan.expires_at <= clock_timestamp()
           OR p_at < clock_timestamp() - interval '10 minutes' OR p_at > clock_timestamp() + interval '1 minute' THEN
            RAISE EXCEPTION 'the plan % can not be signed now', p_token
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        SELECT o.role INTO found_role
        FROM operators o
        JOIN operator_keys k USING (name)
        WHERE o.name = p_name AND o.revoked_at IS NULL AND k.key_id = p_key_id AND k.revoked_at IS NULL;
        IF found_role IS NULL OR found_role = 'viewer' OR (p_purpose = 'request') <> (p_name = plan.made_by)
           OR (p_purpose = 'approval' AND found_role NOT IN ('approver', 'controller'))
           OR (p_purpose = 'approval' AND NOT EXISTS (
                   SELECT FROM dead_letter_signatures WHERE token = p_token AND purpose = 'request'
               )) THEN
            RAISE EXCEPTION '% may not sign the % of the plan %', p_name, p_purpose, p_token
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        INSERT INTO dead_letter_signatures (token, purpose, name, key_id, digest, signed_at, proof, reason, via)
        VALUES (p_token, p_purpose, p_name, p_key_id, p_digest, p_at, p_proof, p_reason, p_via);
        IF p_purpose = 'approval' THEN
            UPDATE dead_letter_plans SET approved_by = p_name WHERE token = p_token;
        END IF;
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, detail)
        VALUES (clock_timestamp(), p_name, found_role, p_via,
                CASE p_purpose WHEN 'approval' THEN 'approve' ELSE 'sign' END, p_reason,
                json_build_object('token', p_token, 'letters', cardinality(plan.letter_ids), 'key', p_key_id,
                                  'digest', encode(p_digest, 'hex'), 'database_login', session_user));
    END
    $$
"""
_SIGNATURE = "dead_letter_plan_sign(text, text, bytea, text, text, timestamptz, bytea, text, text)"

GRANTS = (
    # It believed its caller who approves. An approval without a signature is executed by nobody.
    "DROP FUNCTION dead_letter_approve(text, text, text, text, text)",
    f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC",
    f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO wallet_operator",
    """
    GRANT SELECT ON operators, operator_keys, operator_log, dead_letter_signatures
        TO wallet_operator, wallet_keeper, wallet_readonly
    """,
)


def upgrade() -> None:
    """Leave tables without operators; a plan that was approved before has no signature, and is not executed."""
    for statement in TABLES:
        op.execute(statement)
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(SIGN.format(schema=schema))
    for statement in GRANTS:
        op.execute(statement)
