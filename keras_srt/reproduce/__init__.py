"""`keras-srt reproduce`: the patent's tables and figures, compared with its numbers.

`specs` defines targets; `targets`, `readings`, `recipes` and `attack_settings` are their data,
`layouts` their arrangement. `store` finds trained runs, `evaluation_cache` keeps evaluations, and
`job` trains and evaluates missing models. `target_results` collects the numbers; `tables`,
`figures` and `output` write them.
"""
