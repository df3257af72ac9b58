-- held_out_pairs: the pairs that figures are reported of: those of split `test`, without those whose prompt stands in an
-- evaluation dataset (`contamination`), and of split `evaluation`, the benchmarks.
-- grain: one pair
-- key: pair_id
CREATE VIEW held_out_pairs AS
SELECT dataset, source_row, pair_id, prompt_id, chosen_id, rejected_id, margin, subset, split
FROM stored_preferences
WHERE used_for(split, prompt_id IN (SELECT prompt_id FROM contamination)) = 'held_out';
