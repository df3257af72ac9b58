-- datasets: what was ingested, with counts of native rows in = kept + rejected + dropped.
-- grain: one dataset
-- key: dataset
CREATE VIEW datasets AS
SELECT
    dataset, upstream, licence, evaluation, rows, kept, rejected, dropped, parts_refused, conversations, ratings,
    preferences
FROM stored_datasets;
