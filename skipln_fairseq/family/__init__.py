"""The whole family as a table and as a picture."""
