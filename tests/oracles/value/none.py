"""Each block's own values."""


def values(own, numbers):
    return own
