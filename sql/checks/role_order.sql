-- role_order: conversations whose turns are not [system or developer,] user, assistant, .. ending with assistant.
-- severity: stop
-- grain: one conversation in a native row of a dataset
-- key: conversation_id, dataset, source_row
WITH found AS (
    SELECT conversation_id, [coalesce(turn.role, '') FOR turn IN messages] AS roles
    FROM conversations
    WHERE NOT regexp_full_match(array_to_string(roles, ','), '((system|developer),)?(user,assistant,)*user,assistant')
)
SELECT DISTINCT dataset, source_row, conversation_id, roles
FROM found LEFT JOIN occurrences USING (conversation_id)
ORDER BY ALL;
