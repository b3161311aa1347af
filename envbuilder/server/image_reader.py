"""Image files as arrays of the signature's shape and type, each file one row."""

import importlib
from typing import Any, Dict, List, Optional, Tuple

from .contract import Contract
from .schema import dtype_of

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Of Pillow, by the number of channels."""


class NoImageError(Exception):
    """A file that is no image, or none that fits the signature."""


def entry_of(known: Optional[Contract]) -> Optional[Dict[str, Any]]:
    """Return the tensor that images are given as; raises NoImageError where the signature asks for other things."""
    inputs = known.inputs if known is not None else None
    if not inputs:
        return None
    if len(inputs) != 1 or inputs[0].get("type") != "tensor":
        raise NoImageError("the model's signature asks for columns or for several tensors, not for images")
    return inputs[0]


def read(path: str, entry: Optional[Dict[str, Any]]) -> Any:  # noqa: ANN401
    """Return the image as one row: height, width and channels, reshaped to the signature; raises NoImageError."""
    np = importlib.import_module("numpy")
    try:
        images = importlib.import_module("PIL.Image")
    except ImportError:
        raise NoImageError("images need pillow, which is not in the model's environment; add it there") from None
    shape = tuple(entry["tensor-spec"]["shape"][1:]) if entry is not None else ()
    try:
        with images.open(path) as opened:
            mode = MODES.get(shape[-1]) if len(shape) == 3 else None  # noqa: PLR2004
            made = np.asarray(opened.convert(mode) if mode is not None and opened.mode != mode else opened)
    except (OSError, ValueError, SyntaxError, images.DecompressionBombError) as error:
        raise NoImageError(f"not an image that can be read: {type(error).__name__}") from error
    if entry is None:
        return made.astype(np.uint8) if made.dtype == bool else made
    fitting = _fitted(made, shape)
    if fitting is None:
        raise NoImageError(f"the image is {made.shape}, the signature asks for {shape}")
    return fitting.astype(dtype_of(entry), copy=False)


def _fitted(made: Any, shape: Tuple[int, ...]) -> Any:  # noqa: ANN401
    """Return the array in this shape, where it needs no more than being reshaped for that; else None."""
    if len(made.shape) == len(shape) and all(want in (-1, got) for want, got in zip(shape, made.shape)):
        return made
    if sum(size == -1 for size in shape) > 1:
        return None
    try:
        return made.reshape(shape)
    except ValueError:
        return None


def stacked(rows: List[Any], start: int, end: int) -> Any:  # noqa: ANN401
    """Return some images as one array; raises ValueError where they are of several sizes."""
    return importlib.import_module("numpy").stack(rows[start:end])
