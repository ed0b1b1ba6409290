"""From what the data and the machine are to a recipe, each choice with its reason."""
