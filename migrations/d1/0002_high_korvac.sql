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
ALTER TABLE `api_keys` ADD `tools` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `scopes` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `limits` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `reminded_at` text;--> statement-breakpoint
CREATE INDEX `api_keys_ending` ON `api_keys` (`expires_at`) WHERE revoked_at is null;