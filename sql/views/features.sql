-- features: the vectors; `conversation` is the state on the last token, `prompt` on the prompt's last token.
-- grain: one vector
-- key: backbone, kind, id
CREATE VIEW features AS
SELECT backbone, kind, id, n_tokens, truncated, norm, vector
FROM stored_features;
