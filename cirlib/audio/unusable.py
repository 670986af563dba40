"""The error of a sound that cannot be used."""


class Unusable(ValueError):
    """A sound that a bank cannot store; the message is the reason that the data card shows."""
