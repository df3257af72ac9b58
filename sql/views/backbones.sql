-- backbones: the backbones that vectors were made with; record is the whole fingerprint as JSON.
-- grain: one backbone
-- key: backbone
CREATE VIEW backbones AS
SELECT backbone, name, architecture, hidden_size, dtype, max_tokens, record
FROM stored_backbones;
