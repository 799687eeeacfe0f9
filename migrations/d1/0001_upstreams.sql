CREATE TABLE `directory_version` (
	`id` integer PRIMARY KEY NOT NULL,
	`version` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `upstream_definitions` (
	`upstream` text NOT NULL,
	`kind` text NOT NULL,
	`name` text NOT NULL,
	`status` text NOT NULL,
	`reads` integer NOT NULL,
	`approved` text,
	`approved_pin` text,
	`approved_by` text,
	`approved_at` text,
	`observed` text,
	`observed_pin` text,
	`observed_at` text NOT NULL,
	PRIMARY KEY(`upstream`, `kind`, `name`)
);
--> statement-breakpoint
CREATE TABLE `upstreams` (
	`name` text PRIMARY KEY NOT NULL,
	`revision` text NOT NULL,
	`config` text NOT NULL,
	`auth` text NOT NULL,
	`created_at` text NOT NULL,
	`created_by` text NOT NULL,
	`updated_at` text NOT NULL,
	`era` text,
	`protocol_version` text,
	`capabilities` text NOT NULL,
	`server_info` text,
	`ttl_ms` integer,
	`resources` text NOT NULL,
	`left_out` text NOT NULL,
	`refreshed_at` text,
	`checked_at` text,
	`failure` text
);
