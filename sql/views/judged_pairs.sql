-- judged_pairs: the verdicts of judges on the pairs of datasets; no verdict, and a tie, count as not correct.
-- grain: one judge and pair
-- key: judge, pair_id
CREATE VIEW judged_pairs AS
SELECT
    v.judge, p.dataset, p.pair_id, p.subset, p.split,
    CASE WHEN v.first_id = p.chosen_id THEN v.preference ELSE -v.preference END AS preference,
    coalesce(CASE WHEN v.first_id = p.chosen_id THEN v.preference ELSE -v.preference END > 0, false) AS correct,
    v.why_not
FROM verdicts AS v
JOIN preferences AS p
    ON v.first_id = least(p.chosen_id, p.rejected_id) AND v.second_id = greatest(p.chosen_id, p.rejected_id);
