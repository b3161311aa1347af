"""How the tests are spread over processes: a file in one, and all files that use Docker's engine in the same one."""

from __future__ import annotations

from functools import cache
from typing import Final

from xdist.scheduler import LoadScopeScheduling

_DOCKER: Final = "docker"


class ByEngine(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Docker's engine is one for all, and some of its tests count what it holds."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return _DOCKER if self._uses_docker(path) else path

    @cache  # noqa: B019 - one scheduler a run
    def _uses_docker(self, path: str) -> bool:
        return "pytest.mark.engine" in (self.config.rootpath / path).read_text(encoding="utf-8")
