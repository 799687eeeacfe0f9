CREATE TABLE `api_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`digest` text NOT NULL,
	`name` text NOT NULL,
	`role` text NOT NULL,
	`tenant` text NOT NULL,
	`line` text NOT NULL,
	`workspaces` text,
	`upstreams` text,
	`allowed_ips` text,
	`created_at` text NOT NULL,
	`expires_at` text NOT NULL,
	`last_used_at` text,
	`revoked_at` text
);
--> statement-breakpoint
CREATE INDEX `api_keys_line` ON `api_keys` (`line`);--> statement-breakpoint
CREATE TABLE `audit_log` (
	`session_id` text NOT NULL,
	`seq` integer NOT NULL,
	`tenant` text NOT NULL,
	`timestamp` text NOT NULL,
	`principal` text NOT NULL,
	`role` text NOT NULL,
	`event` text NOT NULL,
	`tool` text,
	`workspace_root` text,
	`plan_hash` text,
	`result` text NOT NULL,
	`error_code` text,
	`args_hash` text,
	`args_stored_hash` text,
	`result_hash` text,
	`intent_seq` integer,
	`request_id` text NOT NULL,
	`notes` text,
	`context` text,
	`prev_hash` text NOT NULL,
	`hash_chain` text NOT NULL,
	`line` text NOT NULL,
	`args` text,
	`salt` text,
	`created_at` text NOT NULL,
	PRIMARY KEY(`session_id`, `seq`)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `audit_log_hash_chain_unique` ON `audit_log` (`hash_chain`);--> statement-breakpoint
CREATE INDEX `audit_log_timestamp` ON `audit_log` (`timestamp`,`session_id`,`seq`);--> statement-breakpoint
CREATE INDEX `audit_log_tool` ON `audit_log` (`tool`) WHERE tool is not null;--> statement-breakpoint
CREATE INDEX `audit_log_plan_hash` ON `audit_log` (`plan_hash`) WHERE plan_hash is not null;--> statement-breakpoint
CREATE INDEX `audit_log_error_code` ON `audit_log` (`error_code`) WHERE error_code is not null;--> statement-breakpoint
CREATE INDEX `audit_log_workspace_root` ON `audit_log` (`workspace_root`) WHERE workspace_root is not null;--> statement-breakpoint
CREATE TABLE `audit_log_archive` (
	`session_id` text NOT NULL,
	`seq` integer NOT NULL,
	`tenant` text NOT NULL,
	`timestamp` text NOT NULL,
	`principal` text NOT NULL,
	`role` text NOT NULL,
	`event` text NOT NULL,
	`tool` text,
	`workspace_root` text,
	`plan_hash` text,
	`result` text NOT NULL,
	`error_code` text,
	`args_hash` text,
	`args_stored_hash` text,
	`result_hash` text,
	`intent_seq` integer,
	`request_id` text NOT NULL,
	`notes` text,
	`context` text,
	`prev_hash` text NOT NULL,
	`hash_chain` text NOT NULL,
	`line` text NOT NULL,
	`args` text,
	`salt` text,
	`created_at` text NOT NULL,
	PRIMARY KEY(`session_id`, `seq`)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `audit_log_archive_hash_chain_unique` ON `audit_log_archive` (`hash_chain`);--> statement-breakpoint
CREATE TABLE `deployment` (
	`key` text PRIMARY KEY NOT NULL,
	`value` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `sessions` (
	`session_id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`principal` text NOT NULL,
	`role` text NOT NULL,
	`era` text NOT NULL,
	`workspace_root` text,
	`plan_hash` text,
	`created_at` text NOT NULL,
	`last_seen_at` text NOT NULL,
	`entries` integer NOT NULL,
	`head` text,
	`ended_at` text,
	`wrapped_key` text
);
--> statement-breakpoint
CREATE INDEX `sessions_tenant` ON `sessions` (`tenant`,`session_id`);--> statement-breakpoint
CREATE INDEX `sessions_live` ON `sessions` (`principal`,`session_id`) WHERE ended_at is null;--> statement-breakpoint
CREATE TABLE `workspaces` (
	`tenant` text NOT NULL,
	`root` text NOT NULL,
	`created_at` text NOT NULL,
	PRIMARY KEY(`tenant`, `root`)
);
