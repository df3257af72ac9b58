-- objective_correlations: how alike two objectives rate the conversations that both rate.
-- grain: one pair of objectives that a conversation is rated by (objective < other)
-- key: objective, other
SELECT a.objective, b.objective AS other, count(*) AS rated_by_both, corr(a.value, b.value) AS correlation
FROM ratings AS a JOIN ratings AS b USING (conversation_id)
WHERE a.objective < b.objective
GROUP BY a.objective, b.objective
ORDER BY correlation DESC, a.objective, other;
