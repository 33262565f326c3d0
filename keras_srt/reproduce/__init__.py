"""`keras-srt reproduce`: the paper's tables and figures, compared with the published numbers.

`specs` defines targets; `targets`, `recipes` and `attack_settings` are their data. `store` finds
trained runs, `evaluation_cache` keeps evaluations, and `job` trains and evaluates missing models.
`target_results` collects the numbers; `tables`, `figures` and `output` write them.
"""
