"""Planning: from a dataset, a machine and a budget to a config, with a reason for each choice."""
