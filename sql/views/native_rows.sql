-- native_rows: where each native row lies and what became of it: kept, rejected, or dropped by a stated rule.
-- grain: one native row of a file
-- key: dataset, file, line
CREATE VIEW native_rows AS
SELECT dataset, source_row, file, line, outcome, reason
FROM stored_native_rows;
