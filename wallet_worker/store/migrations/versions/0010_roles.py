"""Keepers have a role of their own, and operators write nothing themselves: functions do, which check and keep the log.

A function here is SECURITY DEFINER with a search path that is pinned to the wallet's schema. It knows the login behind
it (`session_user`), which no caller can choose, and takes from a plan's row what the plan does: never from its caller.
"""

from alembic import op
from sqlalchemy import text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Granted to whoever migrates, and to each login that may be the worker, because a keeper may run inside of a worker. A
# login that may be an operator alone may be a console's, which is not to be a keeper.
ROLES = (
    """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wallet_keeper') THEN
            CREATE ROLE wallet_keeper NOLOGIN;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another database of this cluster, or another migration at this moment, made it
    END
    $$
    """,
    """
    DO $$
    DECLARE
        login text;
        asked text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    BEGIN
        FOR login IN
            SELECT current_user
            UNION
            SELECT r.rolname
            FROM pg_auth_members m
            JOIN pg_roles r ON r.oid = m.member
            WHERE m.roleid = 'wallet_worker'::regrole
        LOOP
            IF NOT pg_has_role(login, 'wallet_keeper', asked) THEN
                EXECUTE format('GRANT wallet_keeper TO %I', login);
            END IF;
        END LOOP;
    END
    $$
    """,
)

COLUMNS = (
    # Who was logged in at the database when a row was written: absent of what was written before.
    "ALTER TABLE dead_letter_audit ADD COLUMN login text",
    "ALTER TABLE dead_letter_audit ALTER COLUMN login SET DEFAULT session_user",
    # Whoever can make a plan cannot make one of an edit that one person executes alone.
    """
    ALTER TABLE dead_letter_plans ADD CONSTRAINT dead_letter_plans_edit_needs_two
        CHECK (action <> 'edit' OR needs_two)
    """,
)

DEFINER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = {}, pg_temp AS $$"

FUNCTIONS = (
    # Locks: a row can be locked only by who may change it. The caller reads the rows afterwards, as they are by then.
    """
    CREATE FUNCTION dead_letter_lock_letters(p_letter_ids bigint[]) RETURNS void {definer}
    BEGIN
        PERFORM FROM dead_letters WHERE letter_id = ANY (p_letter_ids) ORDER BY letter_id FOR NO KEY UPDATE;
    END
    $$
    """,
    """
    CREATE FUNCTION dead_letter_lock_plan(p_token text) RETURNS void {definer}
    BEGIN
        PERFORM FROM dead_letter_plans WHERE token = p_token FOR NO KEY UPDATE;
    END
    $$
    """,
    """
    CREATE FUNCTION dead_letter_lock_operation(p_operation_id uuid) RETURNS void {definer}
    BEGIN
        PERFORM FROM dead_letter_operations WHERE operation_id = p_operation_id FOR NO KEY UPDATE;
    END
    $$
    """,
    # What operators do to no letter: notes, and that they have read. The other actions are written by who does them.
    """
    CREATE FUNCTION dead_letter_log(
        p_actors text[], p_roles text[], p_vias text[], p_actions text[], p_reasons text[], p_letter_ids bigint[],
        p_operation_ids uuid[], p_details json[]
    ) RETURNS TABLE (
        audit_id bigint, at timestamptz, actor text, role text, via text, action text, reason text, letter_id bigint,
        operation_id uuid, detail json
    ) {definer}
    DECLARE
        forged text;
    BEGIN
        SELECT a.action INTO forged
        FROM unnest(p_actions) AS a (action)
        WHERE a.action IN ('approve', 'sign', 'replay', 'discard', 'restore', 'edit', 'pause', 'resume', 'stop',
                           'reopen')
           OR a.action LIKE ANY (ARRAY['plan %', 'execute %', 'replay %']);
        IF forged IS NOT NULL OR 'keeper' = ANY (p_actors) THEN
            RAISE EXCEPTION 'only the deed itself is logged as %', coalesce(forged, 'a keeper''s')
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN QUERY
        INSERT INTO dead_letter_audit AS d (at, actor, role, via, action, reason, letter_id, operation_id, detail)
        SELECT clock_timestamp(), n.actor, n.role, n.via, n.action, n.reason, n.letter_id, n.operation_id, n.detail
        FROM unnest(p_actors, p_roles, p_vias, p_actions, p_reasons, p_letter_ids, p_operation_ids, p_details)
             AS n (actor, role, via, action, reason, letter_id, operation_id, detail)
        RETURNING d.audit_id, d.at, d.actor, d.role, d.via, d.action, d.reason, d.letter_id, d.operation_id, d.detail;
    END
    $$
    """,
    # What keepers do, each in its own name.
    """
    CREATE FUNCTION dead_letter_keeper_log(
        p_actions text[], p_reasons text[], p_letter_ids bigint[], p_operation_ids uuid[], p_now timestamptz
    ) RETURNS void {definer}
    BEGIN
        IF NOT p_actions <@ ARRAY['replay resolved', 'replay failed', 'stop', 'pause', 'reopen'] THEN
            RAISE EXCEPTION 'no keeper does that' USING ERRCODE = 'insufficient_privilege';
        END IF;
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, letter_id, operation_id, detail)
        SELECT p_now, 'keeper', 'keeper', '', n.action, n.reason, n.letter_id, n.operation_id, '{}'
        FROM unnest(p_actions, p_reasons, p_letter_ids, p_operation_ids) AS n (action, reason, letter_id, operation_id);
    END
    $$
    """,
    """
    CREATE FUNCTION dead_letter_make_plan(
        p_token text, p_action text, p_made_by text, p_role text, p_made_via text, p_life interval, p_reason text,
        p_filter json, p_canary integer, p_rate double precision, p_stop_ratio double precision, p_letter_ids bigint[],
        p_verdicts text[], p_codes text[], p_skipped integer, p_needs_two boolean, p_edited_body bytea,
        p_differences json
    ) RETURNS void {definer}
    DECLARE
        now timestamptz := clock_timestamp();
    BEGIN
        INSERT INTO dead_letter_plans (token, action, made_by, made_via, made_at, expires_at, reason, filter, canary,
                                       rate, stop_ratio, letter_ids, verdicts, codes, skipped, needs_two, edited_body,
                                       differences)
        VALUES (p_token, p_action, p_made_by, p_made_via, now, now + p_life, p_reason, p_filter, p_canary, p_rate,
                p_stop_ratio, p_letter_ids, p_verdicts, p_codes, p_skipped, p_needs_two OR p_action = 'edit',
                p_edited_body, p_differences);
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, detail)
        VALUES (now, p_made_by, p_role, p_made_via, 'plan ' || p_action, p_reason,
                json_build_object('token', p_token, 'letters', cardinality(p_letter_ids), 'skipped', p_skipped,
                                  'filter', p_filter));
    END
    $$
    """,
    """
    CREATE FUNCTION dead_letter_approve(p_token text, p_actor text, p_role text, p_via text, p_reason text)
    RETURNS boolean {definer}
    DECLARE
        plan record;
    BEGIN
        UPDATE dead_letter_plans
        SET approved_by = p_actor
        WHERE token = p_token AND needs_two AND approved_by IS NULL AND operation_id IS NULL
          AND expires_at > clock_timestamp()
        RETURNING token, letter_ids INTO plan;
        IF plan.token IS NULL THEN
            RETURN false;
        END IF;
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, detail)
        VALUES (clock_timestamp(), p_actor, p_role, p_via, 'approve', p_reason,
                json_build_object('token', p_token, 'letters', cardinality(plan.letter_ids)));
        RETURN true;
    END
    $$
    """,
    # Returns how many letters were in the state that the action acts on, and have the next one now. A replay is ordered
    # for each of those, of the letter's own message or of the new one that the plan's row has.
    """
    CREATE FUNCTION dead_letter_execute(
        p_token text, p_operation_id uuid, p_actor text, p_role text, p_via text, p_replay_ids uuid[]
    ) RETURNS integer {definer}
    DECLARE
        now     timestamptz := clock_timestamp();
        plan    record;
        at_once boolean;
        moved   bigint[];
    BEGIN
        SELECT token, action, operation_id, expires_at, needs_two, made_by, approved_by, reason, filter, canary, rate,
               stop_ratio, letter_ids, verdicts, codes, edited_body
        INTO plan
        FROM dead_letter_plans
        WHERE token = p_token
        FOR NO KEY UPDATE;
        IF plan.token IS NULL OR plan.operation_id IS NOT NULL OR plan.expires_at <= now
           OR (plan.needs_two AND plan.approved_by IS NULL) THEN
            RAISE EXCEPTION 'the plan % cannot be executed: there is none, or it is executed, too old or not approved',
                p_token USING ERRCODE = 'insufficient_privilege';
        END IF;
        at_once := plan.action IN ('discard', 'restore');
        INSERT INTO dead_letter_operations (operation_id, token, action, state, actor, via, approved_by, reason, filter,
                                            canary, rate, stop_ratio, total, standing, publish_at, started_at, ended_at)
        VALUES (p_operation_id, plan.token, plan.action, CASE WHEN at_once THEN 'done' ELSE 'running' END, p_actor,
                p_via, plan.approved_by, plan.reason, plan.filter, plan.canary, plan.rate, plan.stop_ratio,
                cardinality(plan.letter_ids),
                CASE WHEN at_once THEN 'done' ELSE 'written down; waiting for a keeper to publish it' END,
                now, now, CASE WHEN at_once THEN now END);
        UPDATE dead_letter_plans SET operation_id = p_operation_id WHERE token = p_token;
        IF plan.action = 'restore' THEN
            UPDATE dead_letter_replays
            SET state = 'cancelled', detail = 'given up: ' || plan.reason, ended_at = now
            WHERE letter_id = ANY (plan.letter_ids) AND state = 'published';
        END IF;
        WITH changed AS (
            UPDATE dead_letters
            SET state = CASE plan.action WHEN 'replay' THEN 'replaying' WHEN 'edit' THEN 'edited'
                                         WHEN 'discard' THEN 'discarded' ELSE 'waiting' END,
                replays = CASE WHEN at_once THEN replays ELSE replays + 1 END,
                updated_at = now
            WHERE letter_id = ANY (plan.letter_ids)
              AND state = ANY (CASE plan.action WHEN 'restore' THEN ARRAY['discarded', 'replaying', 'edited']
                                                ELSE ARRAY['waiting'] END)
            RETURNING letter_id
        )
        SELECT array_agg(letter_id) INTO moved FROM changed;
        IF NOT at_once THEN
            -- The number is the letter's, which is locked and has been counted up.
            INSERT INTO dead_letter_replays (replay_id, letter_id, operation_id, position, number, verdict,
                                             verdict_code, body, body_digest, serial_no, ordered_at)
            SELECT p_replay_ids[n.place], l.letter_id, p_operation_id, n.place - 1, l.replays, n.verdict, n.code,
                   plan.edited_body, coalesce(sha256(plan.edited_body), l.body_digest),
                   CASE WHEN plan.action = 'edit' THEN convert_from(plan.edited_body, 'UTF8')::json ->> 'serial_no' END,
                   now
            FROM unnest(plan.letter_ids, plan.verdicts, plan.codes)
                 WITH ORDINALITY AS n (letter_id, verdict, code, place)
            JOIN dead_letters l USING (letter_id)
            WHERE l.letter_id = ANY (moved)
            ON CONFLICT (letter_id) WHERE state IN ('ordered', 'published') DO NOTHING;
        END IF;
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, operation_id, detail)
        SELECT now, p_actor, p_role, p_via, 'execute ' || plan.action, plan.reason, p_operation_id,
               json_build_object(
                   'token', plan.token, 'made_by', plan.made_by, 'approved_by', plan.approved_by, 'filter', plan.filter,
                   'letters', cardinality(plan.letter_ids),
                   'predictions', (
                       SELECT json_agg(json_build_object('verdict', verdict, 'code', code, 'letters', letters)
                                       ORDER BY letters DESC, first)
                       FROM (
                           SELECT verdict, code, count(*) AS letters, min(place) AS first
                           FROM unnest(plan.verdicts, plan.codes) WITH ORDINALITY AS p (verdict, code, place)
                           GROUP BY verdict, code
                       ) counted
                   )
               );
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, letter_id, operation_id, detail)
        SELECT now, p_actor, p_role, p_via, plan.action, plan.reason, n.letter_id, p_operation_id,
               json_build_object('verdict', n.verdict, 'code', n.code)
        FROM unnest(plan.letter_ids, plan.verdicts, plan.codes) WITH ORDINALITY AS n (letter_id, verdict, code, place)
        ORDER BY n.place;
        RETURN coalesce(cardinality(moved), 0);
    END
    $$
    """,
    # Holds, goes on with, or ends an operation; returns whether it was in a state for that. What is not published of
    # one that is ended waits again; what may be on its way goes on to its outcome, as a keeper finds.
    """
    CREATE FUNCTION dead_letter_change_operation(
        p_operation_id uuid, p_verb text, p_actor text, p_role text, p_via text, p_reason text, p_standing text
    ) RETURNS boolean {definer}
    DECLARE
        now timestamptz := clock_timestamp();
    BEGIN
        IF p_verb NOT IN ('pause', 'resume', 'stop') THEN
            RAISE EXCEPTION 'an operation is paused, resumed or stopped' USING ERRCODE = 'insufficient_privilege';
        END IF;
        UPDATE dead_letter_operations
        SET state = CASE p_verb WHEN 'pause' THEN 'paused' WHEN 'resume' THEN 'running' ELSE 'stopped' END,
            standing = p_standing
        WHERE operation_id = p_operation_id AND ended_at IS NULL
          AND state = ANY (CASE p_verb WHEN 'pause' THEN ARRAY['running'] WHEN 'resume' THEN ARRAY['paused']
                                       ELSE ARRAY['running', 'paused'] END);
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        INSERT INTO dead_letter_audit (at, actor, role, via, action, reason, operation_id, detail)
        VALUES (now, p_actor, p_role, p_via, p_verb, p_reason, p_operation_id, '{}');
        IF p_verb = 'stop' THEN
            WITH cancelled AS (
                UPDATE dead_letter_replays
                SET state = 'cancelled', detail = p_standing, ended_at = now
                WHERE replay_id IN (
                    SELECT replay_id
                    FROM dead_letter_replays
                    WHERE operation_id = p_operation_id AND state = 'ordered' AND copies = 0
                    FOR UPDATE SKIP LOCKED
                )
                RETURNING letter_id
            )
            UPDATE dead_letters
            SET state = 'waiting', replays = greatest(replays - 1, 0), updated_at = now
            WHERE letter_id IN (SELECT letter_id FROM cancelled) AND state IN ('replaying', 'edited');
        END IF;
        RETURN true;
    END
    $$
    """,
)

LOCKS = (
    "dead_letter_lock_letters(bigint[])",
    "dead_letter_lock_plan(text)",
    "dead_letter_lock_operation(uuid)",
)
OPERATORS = (
    *LOCKS,
    "dead_letter_log(text[], text[], text[], text[], text[], bigint[], uuid[], json[])",
    """dead_letter_make_plan(text, text, text, text, text, interval, text, json, integer, double precision,
        double precision, bigint[], text[], text[], integer, boolean, bytea, json)""",
    "dead_letter_approve(text, text, text, text, text)",
    "dead_letter_execute(text, uuid, text, text, text, uuid[])",
    "dead_letter_change_operation(uuid, text, text, text, text, text, text)",
)
KEEPERS = (*LOCKS, "dead_letter_keeper_log(text[], text[], bigint[], uuid[], timestamptz)")

GRANTS = (
    """
    REVOKE INSERT, UPDATE, DELETE ON dead_letters, dead_letter_attempts, dead_letter_plans, dead_letter_operations,
        dead_letter_replays, dead_letter_audit, dead_letter_keepers, dead_letter_names FROM wallet_operator
    """,
    "REVOKE USAGE ON SEQUENCE dead_letters_letter_id_seq FROM wallet_operator",
    # A keeper predicts as operators do, takes letters in, and follows what was ordered. It orders nothing.
    """
    GRANT SELECT ON alembic_version, accounts, commands, orders, entries, payment_results, parked_results, currencies
        TO wallet_keeper
    """,
    """
    GRANT SELECT ON dead_letters, dead_letter_attempts, dead_letter_names, dead_letter_plans, dead_letter_operations,
        dead_letter_replays, dead_letter_audit, dead_letter_keepers TO wallet_keeper
    """,
    "GRANT INSERT ON dead_letters, dead_letter_attempts, dead_letter_names, dead_letter_keepers TO wallet_keeper",
    "GRANT UPDATE (state, reason, detail, worker, attempts, replays, updated_at) ON dead_letters TO wallet_keeper",
    "GRANT USAGE ON SEQUENCE dead_letters_letter_id_seq TO wallet_keeper",
    "GRANT UPDATE (times) ON dead_letter_attempts TO wallet_keeper",
    "GRANT UPDATE (state, standing, publish_at, ended_at) ON dead_letter_operations TO wallet_keeper",
    """
    GRANT UPDATE (state, code, detail, tries, copies, attempted_at, published_at, checked_at, ended_at)
        ON dead_letter_replays TO wallet_keeper
    """,
    "GRANT UPDATE (standing, depths, seen_at), DELETE ON dead_letter_keepers TO wallet_keeper",
)


def upgrade() -> None:
    """Leave both roles with what they need; no row of an operation, replay, plan or audit is anybody's to write."""
    for statement in (*ROLES, *COLUMNS):
        op.execute(statement)
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    for function in FUNCTIONS:
        op.execute(function.replace("{definer}", DEFINER.format(schema)))
    for functions, role in ((OPERATORS, "wallet_operator"), (KEEPERS, "wallet_keeper")):
        for signature in functions:
            op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
            op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {role}")
    for statement in GRANTS:
        op.execute(statement)
