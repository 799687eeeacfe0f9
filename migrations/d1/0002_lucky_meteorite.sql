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
CREATE TABLE `kill_switch_version` (
	`id` integer PRIMARY KEY NOT NULL,
	`version` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `kill_switches` (
	`id` text PRIMARY KEY NOT NULL,
	`scope` text NOT NULL,
	`reason` text NOT NULL,
	`engaged_by` text NOT NULL,
	`engaged_at` text NOT NULL,
	`lifted_by` text,
	`lifted_at` text,
	`lift_reason` text
);
--> statement-breakpoint
CREATE INDEX `kill_switches_engaged` ON `kill_switches` (`id`) WHERE lifted_at is null;--> statement-breakpoint
CREATE TABLE `metric_counts` (
	`metric` text NOT NULL,
	`labels` text NOT NULL,
	`value` integer NOT NULL,
	PRIMARY KEY(`metric`, `labels`)
);
--> statement-breakpoint
ALTER TABLE `api_keys` ADD `minted_by` text;