CREATE TABLE `witnessed_logs` (
	`origin` text NOT NULL,
	`vkey` text NOT NULL,
	`added_at` text NOT NULL,
	`added_by` text NOT NULL,
	PRIMARY KEY(`origin`, `vkey`)
);
