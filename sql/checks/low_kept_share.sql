-- low_kept_share: datasets that kept less than half of the native rows that they were asked for: all, or those of `share`.
-- severity: warn
-- grain: one dataset
-- key: dataset
WITH
    asked AS (
        SELECT split_part(slot, '/', 2) AS dataset, coalesce((parameters::JSON ->> 'share')::DOUBLE, 1) AS share
        FROM artifacts
        WHERE slot LIKE 'ingest/%'
    )
SELECT dataset, rows, share, kept, rejected, dropped, kept / (share * rows) AS kept_share
FROM datasets JOIN asked USING (dataset)
WHERE kept < 0.5 * share * rows
ORDER BY ALL;
