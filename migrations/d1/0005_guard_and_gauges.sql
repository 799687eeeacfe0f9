CREATE TABLE `client_certificates` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`match` text NOT NULL,
	`line` text,
	`principal` text,
	`role` text,
	`tenant` text,
	`created_at` text NOT NULL,
	`created_by` text NOT NULL,
	`last_used_at` text,
	`revoked_at` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `client_certificates_match` ON `client_certificates` (`match`) WHERE revoked_at is null;--> statement-breakpoint
CREATE TABLE `connections` (
	`id` text PRIMARY KEY NOT NULL,
	`at` text NOT NULL,
	`outcome` text NOT NULL,
	`reason` text NOT NULL,
	`status` integer NOT NULL,
	`principal` text,
	`address` text,
	`colo` text,
	`tls_version` text,
	`user_agent` text,
	`request_id` text NOT NULL,
	`count` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `connections_at` ON `connections` (`at`,`id`);--> statement-breakpoint
CREATE INDEX `connections_principal` ON `connections` (`principal`,`at`) WHERE principal is not null;--> statement-breakpoint
CREATE INDEX `connections_outcome` ON `connections` (`outcome`,`at`,`id`);--> statement-breakpoint
CREATE TABLE `metric_counts` (
	`metric` text NOT NULL,
	`labels` text NOT NULL,
	`value` integer NOT NULL,
	PRIMARY KEY(`metric`, `labels`)
);
--> statement-breakpoint
ALTER TABLE `api_keys` ADD `tools` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `scopes` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `limits` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `reminded_at` text;--> statement-breakpoint
CREATE INDEX `api_keys_ending` ON `api_keys` (`expires_at`) WHERE revoked_at is null;