-- used_for: what a row may be used for, by its split and whether its prompt stands in an evaluation dataset: `training`
-- (fitting, and choosing settings), `held_out` (figures), or NULL: left out of both.
-- grain: none, a function
-- key: none
CREATE MACRO used_for(split, contaminated) AS CASE
    WHEN split = 'evaluation' THEN 'held_out'
    WHEN contaminated THEN NULL
    WHEN split IN ('train', 'validation') THEN 'training'
    WHEN split = 'test' THEN 'held_out'
END;
