-- rejected_texts: the texts that a backbone gives no usable vector for, by what records them.
-- grain: one text of one record of an embedding
-- key: node, kind, id
CREATE VIEW rejected_texts AS
SELECT DISTINCT node, scope AS kind, source_row AS id
FROM stored_rejects JOIN stored_nodes USING (node)
WHERE stage = 'rejected';
