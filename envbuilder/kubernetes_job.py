"""A Kubernetes Indexed Job that predicts with an image, a shard for each index. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/job/: with `backoffLimitPerIndex` (stable since 1.33), a pod
that is lost is started again for its index alone, and the exit codes of the image's `predict` decide what else is.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

from envbuilder.errors import InvalidFileError, Source
from envbuilder.problems import Problems, shown

_USER: Final = 1000
_INPUTS: Final = "/mnt/input"
_OUTPUT: Final = "/mnt/output"
_WRONG, _TOO_MANY = 2, 3
"""Exit codes of the image's `predict` that no further try changes: for all shards, and for one."""

_RETRIES: Final = 3
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_QUANTITY: Final = re.compile(r"[1-9][0-9]*(?:[KMGTPE]i|[kMGTPE])?")
_SUFFIXES: Final = (".csv", ".parquet", ".jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPath:
    """A file or folder of a PersistentVolumeClaim."""

    claim: str
    path: str
    """Relative to the volume's root, normalised; `.` for the root."""

    @classmethod
    def parse(cls, text: str, *, where: Source, problems: Problems) -> ClaimPath | None:
        """Read `CLAIM:PATH`; notes what is wrong, and returns None then."""
        claim, colon, path = text.partition(":")
        if not colon or not _SUBDOMAIN.fullmatch(claim):
            problems.add(
                f"`{shown(text)}` names no claim",
                where=where,
                fix="write `CLAIM:PATH`, a PersistentVolumeClaim and a path in it, e.g. `data:2024/in`",
            )
            return None
        inside = posixpath.normpath(path or ".")
        if path.startswith("/") or inside.split("/")[0] == ".." or not path.isprintable():
            problems.add(
                f"`{shown(path)}` is no path in the claim",
                where=where,
                fix="write it from the volume's root, without `..`",
            )
            return None
        return cls(claim=claim, path=inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesJob:
    """What the Job runs: `predict` of an image over files in claims."""

    name: str
    image: str
    inputs: tuple[ClaimPath, ...]
    output: ClaimPath
    shards: int
    parallelism: int
    workers: int
    memory: str
    error_threshold: int

    @classmethod
    def of(  # noqa: PLR0913 - what the user chose
        cls,
        image: str,
        *,
        inputs: tuple[str, ...],
        output: str,
        shards: int,
        name: str,
        parallelism: int | None = None,
        workers: int = 1,
        memory: str = "2Gi",
        error_threshold: int = 0,
    ) -> KubernetesJob:
        """Check what was chosen; raises InvalidFileError with all problems."""
        problems = Problems()
        found = [ClaimPath.parse(text, where=Source(file="--input"), problems=problems) for text in inputs]
        if not inputs:
            problems.add("no input is named", where=Source(file="--input"), fix="add `--input CLAIM:PATH`")
        place = ClaimPath.parse(output, where=Source(file="--predictions"), problems=problems)
        if place is not None and not place.path.endswith(_SUFFIXES):
            problems.add(
                f"`{shown(place.path)}` names no file of predictions",
                where=Source(file="--predictions"),
                fix=f"let it end in {', '.join(_SUFFIXES)}",
            )
        if not _LABEL.fullmatch(name):
            problems.add(
                f"`{shown(name)}` is no name of a Job",
                where=Source(file="--name"),
                fix="use up to 63 lower-case letters, digits and `-`",
            )
        if not _QUANTITY.fullmatch(memory):
            problems.add(
                f"`{shown(memory)}` is no amount of memory", where=Source(file="--memory"), fix="write e.g. `2Gi`"
            )
        problems.finish(InvalidFileError)
        assert place is not None  # noqa: S101 - else there was a problem
        return cls(
            name=name,
            image=image,
            inputs=tuple(one for one in found if one is not None),
            output=place,
            shards=shards,
            parallelism=min(parallelism or shards, shards),
            workers=workers,
            memory=memory,
            error_threshold=error_threshold,
        )

    def to_text(self) -> str:
        """Return the Job as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=1000)

    def to_dict(self) -> dict[str, Any]:
        """Return the Job as `batch/v1` has it."""
        labels = {"app.kubernetes.io/name": self.name, "app.kubernetes.io/managed-by": "envbuilder"}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "completionMode": "Indexed",
                "completions": self.shards,
                "parallelism": self.parallelism,
                "backoffLimitPerIndex": _RETRIES,
                "podFailurePolicy": {"rules": _rules()},
                "template": {"metadata": {"labels": labels}, "spec": self._pod()},
            },
        }

    def _pod(self) -> dict[str, Any]:
        claims = list(dict.fromkeys(one.claim for one in (*self.inputs, self.output)))
        volumes: list[dict[str, Any]] = [
            {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}}
            for number, claim in enumerate(claims)
        ]
        return {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container(claims)],
            "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
        }

    def _container(self, claims: list[str]) -> dict[str, Any]:
        inputs = [f"{_INPUTS}/{claims.index(one.claim)}/{one.path}".removesuffix("/.") for one in self.inputs]
        mounts: list[dict[str, Any]] = [
            {"name": f"claim-{number}", "mountPath": f"{_INPUTS}/{number}", "readOnly": True}
            for number in sorted({claims.index(one.claim) for one in self.inputs})
        ]
        mounts.append({"name": f"claim-{claims.index(self.output.claim)}", "mountPath": _OUTPUT})
        resources = {"cpu": str(self.workers), "memory": self.memory}
        return {
            "name": "predict",
            "image": self.image,
            "args": [
                "predict",
                *(f"--input={path}" for path in inputs),
                f"--output={_OUTPUT}/{self.output.path}",
                f"--shard={self.shards}",
                f"--workers={self.workers}",
                f"--error-threshold={self.error_threshold}",
            ],
            "resources": {"requests": resources, "limits": {"memory": self.memory}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the container's own
        }


def _rules() -> list[dict[str, Any]]:
    def on(code: int) -> dict[str, Any]:
        return {"containerName": "predict", "operator": "In", "values": [code]}

    return [
        # A node that is drained or lost is no failure of the shard.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": on(_WRONG)},
        {"action": "FailIndex", "onExitCodes": on(_TOO_MANY)},
    ]


__all__ = ["ClaimPath", "KubernetesJob"]
