"""Which content types are answered; the rules and the texts are those of MLflow's scoring server."""

from __future__ import annotations

from .payload import PROTOCOL_CHANGE

# Beside those that the text names: the worker answers 415 itself where the model's environment lacks pyarrow.
ARROW = "application/vnd.apache.arrow.stream"

SUPPORTED = ("text/csv", "application/json", "application/vnd.apache.parquet")


class UnsupportedContentTypeError(Exception):
    """A content type to be refused with 415; its text is the body."""


def parse(header: str | None) -> str:
    """Return the media type of a Content-Type header.

    A missing header is refused like any other unknown type; MLflow's server fails on it with 500.
    """
    header = header or ""
    media_type, *parts = (part.strip() for part in header.split(";"))
    parameters = {key: value for key, _, value in (part.partition("=") for part in parts)}
    if parameters.pop("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedContentTypeError("The scoring server only supports UTF-8")
    if parameters:
        names = ", ".join(sorted(parameters))
        raise UnsupportedContentTypeError(f"Unrecognized content type parameters: {names}. {PROTOCOL_CHANGE}")
    if media_type not in (*SUPPORTED, ARROW):
        raise UnsupportedContentTypeError(
            f"This predictor only supports the following content types: Types: {list(SUPPORTED)}. Got '{header}'."
        )
    return media_type
