-- rejects: what was refused, with its reason and as it stood; scope says whether all of the row or a part.
-- grain: one refused native row or part of one
-- key: none (one row may have several parts refused for the same reason)
CREATE VIEW rejects AS
SELECT dataset, source_row, scope, reason, detail, raw
FROM stored_rejects;
