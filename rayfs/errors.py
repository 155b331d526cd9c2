"""The one exception that means "the user's input is wrong"."""


class InputError(ValueError):
    """Wrong input: what was given, what was expected, what to do, with the numbers.

    Jobs print the message alone and exit with code 2. It takes a single argument so that it survives pickling
    between Ray processes.
    """
