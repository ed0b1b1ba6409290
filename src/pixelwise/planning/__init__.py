"""From what the data and the machine are to a config, each choice with its reason."""
