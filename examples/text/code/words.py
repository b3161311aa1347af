"""Counts in texts; travels with the model in its `code` folder."""


def count(text: str) -> dict[str, int]:
    words = text.split()
    return {"characters": len(text), "words": len(words), "longest": max((len(word) for word in words), default=0)}
