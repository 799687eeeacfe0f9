-- A row that was rebuilt from segments lacks its session's key until the session flushes again.
GRANT UPDATE (wrapped_key) ON sessions TO atlas_gateway;
--> statement-breakpoint
-- A grant cannot tell giving a key from taking one away; and the owner needs none.
CREATE FUNCTION atlas_guard_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.wrapped_key IS NULL AND OLD.erased_at IS NULL THEN
    RETURN NEW;
  END IF;
  IF NEW.wrapped_key IS NULL AND current_user = 'atlas_maintenance' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'only atlas_maintenance destroys a session''s key, and nobody changes it'
    USING ERRCODE = 'insufficient_privilege';
END
$$;
--> statement-breakpoint
CREATE TRIGGER sessions_guard_key BEFORE UPDATE OF wrapped_key ON sessions
  FOR EACH ROW WHEN (OLD.wrapped_key IS DISTINCT FROM NEW.wrapped_key)
  EXECUTE FUNCTION atlas_guard_key();
