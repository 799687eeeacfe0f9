CREATE TABLE `legal_holds` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant` text NOT NULL,
	`session_id` text,
	`reason` text NOT NULL,
	`created_at` text NOT NULL,
	`created_by` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `maintenance` (
	`task` text PRIMARY KEY NOT NULL,
	`day` text NOT NULL,
	`state` text NOT NULL
);
--> statement-breakpoint
ALTER TABLE `sessions` ADD `erased_at` text;--> statement-breakpoint
ALTER TABLE `sessions` ADD `retired_at` text;--> statement-breakpoint
CREATE INDEX `sessions_expiring` ON `sessions` (`ended_at`) WHERE retired_at is null;