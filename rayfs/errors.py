"""The one exception that means "the user's input is wrong"."""


class InputError(Exception):
    """Wrong input: what was given, what was expected, what to do, with the numbers.

    Jobs print the message alone and exit with code 2. No ValueError: the command-line parser would catch that itself
    and print it another way. It takes a single argument so that it survives pickling
    between Ray processes.
    """
