-- rejects: what was refused, with its reason and as it stood; scope says whether all of the row or a part. Where dataset
-- is `backbone/` and its id, a text that this backbone gives no usable vector for: source_row is its id, scope its kind.
-- grain: one refused native row or part of one, or one text without a vector
-- key: none (one row may have several parts refused for the same reason)
CREATE VIEW rejects AS
SELECT dataset, source_row, scope, reason, detail, raw
FROM stored_rejects;
