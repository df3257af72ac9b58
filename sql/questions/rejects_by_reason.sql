-- rejects_by_reason: what was refused at ingest and why, with an example; part: a rating that is refused while the row's
-- others stay.
-- grain: one reason in a dataset, of whole rows or of parts
-- key: dataset, scope, reason
SELECT
    dataset, scope, reason, count(*) AS rejects, count(DISTINCT source_row) / any_value(rows) AS share_of_rows,
    min(detail) AS example, arg_min(source_row, detail) AS example_source_row
FROM rejects JOIN datasets USING (dataset)
GROUP BY dataset, scope, reason
ORDER BY rejects DESC, dataset, scope, reason;
