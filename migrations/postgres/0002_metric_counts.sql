CREATE TABLE "metric_counts" (
	"metric" text NOT NULL,
	"labels" text NOT NULL,
	"value" bigint NOT NULL,
	CONSTRAINT "metric_counts_metric_labels_pk" PRIMARY KEY("metric","labels")
);
--> statement-breakpoint
-- Counted in the transaction that writes what is counted; nobody takes a count away.
GRANT SELECT ON metric_counts TO atlas_gateway, atlas_maintenance;
--> statement-breakpoint
GRANT INSERT, UPDATE (value) ON metric_counts TO atlas_gateway;
