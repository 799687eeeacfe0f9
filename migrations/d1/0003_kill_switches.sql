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
ALTER TABLE `api_keys` ADD `minted_by` text;