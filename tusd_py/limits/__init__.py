"""An account of uploads: how much is stored, what is still to come, who creates how fast. What is allowed is `rules`'s."""
