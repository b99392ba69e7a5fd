"""The demonstration behind ``make demo``: a real corpus, a small model, BLEU and sample translations."""

import logging

# Importing fairseq turns everybody's debug messages on, and matplotlib has hundreds.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
