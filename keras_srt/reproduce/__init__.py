"""`keras-srt reproduce`: the paper's tables and figures, ours beside the paper's numbers.

`specs` says what a target is, `recipes`, `attack_settings` and `targets` fill that in with
data, `store` recognizes trained models, `outcomes` keeps evaluations, `job` does what is
missing, and `tables`, `figures` and `output` write the results.
"""
