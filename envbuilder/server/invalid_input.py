"""What is said when a request is not what the protocol or the model's signature asks for."""

from typing import Optional

ENFORCEMENT = "SCHEMA_ENFORCEMENT_FAILED"


class InvalidInputError(Exception):
    """A request to be refused with 400; `code` and `error_class` are MLflow's names."""

    def __init__(self, message: str, *, code: str = "BAD_REQUEST", error_class: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = code
        self.error_class = error_class
