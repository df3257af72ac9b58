-- conversations: every distinct conversation of all datasets.
-- grain: one conversation
-- key: conversation_id
CREATE VIEW conversations AS
SELECT
    conversation_id,
    any_value(prompt_id) AS prompt_id,
    any_value(messages) AS messages,  -- equal ids are equal messages
    any_value(n_turns) AS n_turns,
    any_value(n_chars) AS n_chars
FROM stored_conversations
GROUP BY conversation_id;
