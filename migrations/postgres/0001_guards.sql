-- What the schema alone cannot say: who may do what to evidence.
--
-- atlas_gateway      adds and reads records; changes none, not even its own.
-- atlas_maintenance  removes and moves expired records, and erases arguments.
--
-- A login of the gateway is a member of the first, and of the second only to
-- step into it: GRANT atlas_maintenance TO login WITH INHERIT FALSE, SET TRUE.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'atlas_gateway') THEN
    CREATE ROLE atlas_gateway NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'atlas_maintenance') THEN
    CREATE ROLE atlas_maintenance NOLOGIN;
  END IF;
END
$$;
--> statement-breakpoint
GRANT USAGE ON SCHEMA public TO atlas_gateway, atlas_maintenance;
--> statement-breakpoint
GRANT SELECT ON atlas_migrations, sessions, audit_log, audit_log_archive
  TO atlas_gateway, atlas_maintenance;
--> statement-breakpoint
GRANT INSERT ON sessions, audit_log TO atlas_gateway;
--> statement-breakpoint
GRANT UPDATE (workspace_root, plan_hash, last_seen_at, entries, head, ended_at)
  ON sessions TO atlas_gateway;
--> statement-breakpoint
GRANT UPDATE (wrapped_key, erased_at, retired_at) ON sessions TO atlas_maintenance;
--> statement-breakpoint
GRANT DELETE, UPDATE (args, args_text, salt) ON audit_log, audit_log_archive TO atlas_maintenance;
--> statement-breakpoint
GRANT INSERT ON audit_log, audit_log_archive TO atlas_maintenance;
--> statement-breakpoint
-- Grants do not bind the owner of a table, nor a superuser; a trigger does.
CREATE FUNCTION atlas_guard_records() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  erased record;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    RAISE EXCEPTION 'records are not truncated' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF current_user <> 'atlas_maintenance' THEN
    RAISE EXCEPTION 'only atlas_maintenance removes records or erases arguments'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  erased := OLD;
  erased.args := NULL;
  erased.args_text := NULL;
  erased.salt := NULL;
  IF NEW IS DISTINCT FROM erased THEN
    RAISE EXCEPTION 'of a record only args and salt may change, and only to null'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER audit_log_guard BEFORE UPDATE OR DELETE ON audit_log
  FOR EACH ROW EXECUTE FUNCTION atlas_guard_records();
--> statement-breakpoint
CREATE TRIGGER audit_log_keep BEFORE TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION atlas_guard_records();
--> statement-breakpoint
CREATE TRIGGER audit_log_archive_guard BEFORE UPDATE OR DELETE ON audit_log_archive
  FOR EACH ROW EXECUTE FUNCTION atlas_guard_records();
--> statement-breakpoint
CREATE TRIGGER audit_log_archive_keep BEFORE TRUNCATE ON audit_log_archive
  FOR EACH STATEMENT EXECUTE FUNCTION atlas_guard_records();
--> statement-breakpoint
-- For subscribers that keep a copy: CREATE SUBSCRIPTION … PUBLICATION audit_log_pub.
CREATE PUBLICATION audit_log_pub FOR TABLE sessions, audit_log, audit_log_archive;
