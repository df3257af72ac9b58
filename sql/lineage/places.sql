-- places: the first file and line where a native row stands in a version of a dataset, with what became of it there.
-- grain: one native row and outcome of one ingest (a repeated row is kept once, and dropped where it repeats)
-- key: source, dataset, native_row, outcome
CREATE VIEW places AS
SELECT
    node AS source, dataset, source_row AS native_row, outcome,
    min_by(file, (file, line)) AS file, min_by(line, (file, line)) AS line
FROM stored_native_rows
GROUP BY ALL;
