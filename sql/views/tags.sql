-- tags: the names that people have given to snapshots, and the model and backbone that are promoted.
-- grain: one name
-- key: name
CREATE VIEW tags AS
SELECT name, kind, id, number, set_at
FROM stored_tags;
