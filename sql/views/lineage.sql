-- lineage: what each artifact was made from; input_id is an artifact's id, or the SHA-256 of a native file.
-- grain: one edge
-- key: artifact_id, input
CREATE VIEW lineage AS
SELECT DISTINCT artifact_id, input, input_id
FROM stored_lineage;
