-- texts: messages for looking up some of them: `conversations` has each once, and reads all of them for that.
-- grain: one conversation of a dataset
-- key: none (what datasets share stands in it once for each)
CREATE VIEW texts AS
SELECT conversation_id, prompt_id, messages
FROM stored_conversations;
