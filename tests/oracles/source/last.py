"""The encoder's end, for all."""


def sources(outputs, end, numbers):
    return [end(outputs[-1])]
