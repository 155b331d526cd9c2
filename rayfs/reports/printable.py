"""Texts from outside, made fit to be shown: without what no file can hold, and not too long."""


def printable(text: str) -> str:
    """Return `text` without what no file can hold: control characters and the halves of broken file names."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(c if c >= " " or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in whole)


def short(text: str, n_characters: int = 40, *, n_last: int | None = None) -> str:
    """Return `text` on one line, its middle cut out if it is longer than `n_characters`.

    Arguments:
        n_last: characters of its end that are kept; default half of them.
    """
    text = " ".join(printable(text).split())
    if len(text) <= n_characters:
        return text
    last = (n_characters - 1) // 2 if n_last is None else n_last
    return f"{text[: n_characters - 1 - last]}…{text[-last:]}"
