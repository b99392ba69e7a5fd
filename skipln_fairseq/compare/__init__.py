"""Models compared: a grid of variants, seeds and data; what is missing is run, and all is reported."""
