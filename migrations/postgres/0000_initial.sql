CREATE TABLE "audit_log" (
	"session_id" uuid NOT NULL,
	"seq" integer NOT NULL,
	"tenant" text NOT NULL,
	"timestamp" timestamp(3) with time zone NOT NULL,
	"principal" text NOT NULL,
	"role" text NOT NULL,
	"event" text NOT NULL,
	"tool" text,
	"workspace_root" text,
	"plan_hash" text,
	"result" text NOT NULL,
	"error_code" text,
	"args_hash" text,
	"args_stored_hash" text,
	"result_hash" text,
	"intent_seq" integer,
	"request_id" text NOT NULL,
	"notes" text,
	"context" jsonb,
	"prev_hash" text NOT NULL,
	"hash_chain" text NOT NULL,
	"line" text NOT NULL,
	"args" jsonb,
	"args_text" text,
	"salt" text,
	"created_at" timestamp(3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "audit_log_session_id_seq_pk" PRIMARY KEY("session_id","seq"),
	CONSTRAINT "audit_log_hash_chain_unique" UNIQUE("hash_chain")
);
--> statement-breakpoint
CREATE TABLE "audit_log_archive" (
	"session_id" uuid NOT NULL,
	"seq" integer NOT NULL,
	"tenant" text NOT NULL,
	"timestamp" timestamp(3) with time zone NOT NULL,
	"principal" text NOT NULL,
	"role" text NOT NULL,
	"event" text NOT NULL,
	"tool" text,
	"workspace_root" text,
	"plan_hash" text,
	"result" text NOT NULL,
	"error_code" text,
	"args_hash" text,
	"args_stored_hash" text,
	"result_hash" text,
	"intent_seq" integer,
	"request_id" text NOT NULL,
	"notes" text,
	"context" jsonb,
	"prev_hash" text NOT NULL,
	"hash_chain" text NOT NULL,
	"line" text NOT NULL,
	"args" jsonb,
	"args_text" text,
	"salt" text,
	"created_at" timestamp(3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "audit_log_archive_session_id_seq_pk" PRIMARY KEY("session_id","seq"),
	CONSTRAINT "audit_log_archive_hash_chain_unique" UNIQUE("hash_chain")
);
--> statement-breakpoint
CREATE TABLE "sessions" (
	"session_id" uuid PRIMARY KEY NOT NULL,
	"tenant" text NOT NULL,
	"principal" text NOT NULL,
	"role" text NOT NULL,
	"era" text NOT NULL,
	"workspace_root" text,
	"plan_hash" text,
	"created_at" timestamp(3) with time zone NOT NULL,
	"last_seen_at" timestamp(3) with time zone NOT NULL,
	"entries" integer NOT NULL,
	"head" text,
	"ended_at" timestamp(3) with time zone,
	"wrapped_key" text,
	"erased_at" timestamp(3) with time zone,
	"retired_at" timestamp(3) with time zone
);
--> statement-breakpoint
CREATE INDEX "audit_log_timestamp" ON "audit_log" USING btree ("timestamp","session_id","seq");--> statement-breakpoint
CREATE INDEX "audit_log_tool" ON "audit_log" USING btree ("tool") WHERE tool is not null;--> statement-breakpoint
CREATE INDEX "audit_log_plan_hash" ON "audit_log" USING btree ("plan_hash") WHERE plan_hash is not null;--> statement-breakpoint
CREATE INDEX "audit_log_error_code" ON "audit_log" USING btree ("error_code") WHERE error_code is not null;--> statement-breakpoint
CREATE INDEX "audit_log_workspace_root" ON "audit_log" USING btree ("workspace_root") WHERE workspace_root is not null;--> statement-breakpoint
CREATE INDEX "sessions_tenant" ON "sessions" USING btree ("tenant","session_id");--> statement-breakpoint
CREATE INDEX "sessions_live" ON "sessions" USING btree ("principal","session_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "sessions_expiring" ON "sessions" USING btree ("ended_at") WHERE retired_at is null;