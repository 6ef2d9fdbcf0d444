"""The trials of a study, the workers that run them, and its progress. No torch.

Start with `plan`, which says which trials a study has, and `session`, in which a worker claims trials and stores
results. `supervisor` and `ray_cluster` start workers.
"""
