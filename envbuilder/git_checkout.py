"""Sources in Git: a requirement's ref becomes a commit, and a commit becomes a tree of files without its history.

A build sees no repository, and the base image has no git: what tools like setuptools-scm read from the history is left
for them in `.git_archival.txt`, as the archives of hosting sites have it. The tree depends on the commit and the tags
of its history only.
"""

from __future__ import annotations

import io
import re
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envbuilder import digest, disk, git_program, layer, source_unpack
from envbuilder.errors import LockImpossibleError, Source, UnreachableError
from envbuilder.problems import shown
from envbuilder.source_tree import SourceTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envbuilder.digest import Digest
    from envbuilder.git_repository import GitRepository
    from envbuilder.machine import Machine

_REF: Final = "refs/envbuilder/commit"
_ARCHIVAL: Final = ".git_archival.txt"
_SHORT: Final = re.compile(r"[0-9a-f]{7,39}")
_LAYOUT_VERSION: Final = 1


def resolve(repository: GitRepository, *, machine: Machine) -> str:
    """Return the whole commit that the repository's ref is now: a branch before a tag, as pip does.

    Raises LockImpossibleError when there is no such ref, UnreachableError when the server does not answer.
    """
    if repository.commit is not None:
        return repository.commit
    with _opened(repository, machine) as git:
        commit = git.advertised(repository.ref)
        if commit is None and repository.ref is not None and _SHORT.fullmatch(repository.ref):
            commit = git.lengthened(repository.ref)
    if commit is None:
        raise LockImpossibleError(
            f"the repository has no branch, tag or commit `{repository.ref or 'HEAD'}`",
            where=Source(file=repository.shown),
            fix="check the name after `@`; `git ls-remote URL` lists what there is",
        )
    return commit


@contextmanager
def open_tree(repository: GitRepository, *, commit: str, machine: Machine) -> Iterator[SourceTree]:
    """Give the files of the commit as long as the block lasts; fetches it unless it is in the cache."""
    exact = replace(repository, ref=commit)
    if exact.commit is None:
        raise LockImpossibleError(
            f"`{shown(commit)}` is not a whole commit", where=Source(file=repository.shown), fix="lock again"
        )
    key = digest.hex_of(digest.of_json([repository.url, commit, _LAYOUT_VERSION]))
    archive = machine.sources / "git" / f"{key}.tar"
    if not archive.exists():
        with _opened(repository, machine) as git:
            git.fetch(commit)
            git.export(commit, archive)
    where = Source(file=exact.shown)
    with disk.temporary_directory(machine.sources) as work:
        source_unpack.unpack(archive, work, where=where)
        top = work / "source"
        tree = SourceTree(directory=top, digest=_digest(top), subdirectory=repository.subdirectory, where=where)
        yield tree.checked()


def _digest(root: Path) -> Digest:
    """Return the digest of the files of a tree, with what is executable and where links lead."""
    entries = sorted(layer.tree_entries(root), key=lambda entry: entry.path)
    return digest.of_json([[entry.path, entry.mode, _content(entry)] for entry in entries])


def _content(entry: layer.Entry) -> str | None:
    return digest.of_file(entry.content) if isinstance(entry.content, Path) else entry.link


@contextmanager
def _opened(repository: GitRepository, machine: Machine) -> Iterator[_Git]:
    if machine.settings.offline:
        raise UnreachableError(
            "not in the caches, and `--offline` forbids to ask the repository",
            where=Source(file=repository.shown),
            fix="run once without `--offline`, or bring the cache of a machine that has it",
        )
    with disk.temporary_directory(machine.sources) as work:
        git = _Git(repository, machine, work)
        git.run("init", "--quiet", "--bare", "--template=")
        git.run("config", "remote.origin.url", repository.url)
        yield git


class _Git:
    """A bare repository that is thrown away after use."""

    def __init__(self, repository: GitRepository, machine: Machine, folder: Path) -> None:
        self._repository = repository
        self._machine = machine
        self._folder = folder

    def run(self, *arguments: str) -> str:
        """Run git, which must end well, and return its output."""
        finished = git_program.run(arguments, folder=self._folder, repository=self._repository, machine=self._machine)
        if not finished.ok:
            raise git_program.failure(finished, self._repository)
        return finished.stdout.decode(errors="replace")

    def tried(self, *arguments: str) -> str | None:
        """Run git and return its output, None when it ended badly for a reason other than the network."""
        try:
            return self.run(*arguments)
        except LockImpossibleError:
            return None

    def advertised(self, ref: str | None) -> str | None:
        """Return the commit that the server has for the ref."""
        wanted: tuple[str, ...] = (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}")
        if ref is None:
            wanted = ("HEAD",)
        elif ref.startswith("refs/"):
            wanted = (f"{ref}^{{}}", ref)
        listed = self.run("ls-remote", "--quiet", "origin", *wanted)
        found = {name: commit for commit, _, name in (line.partition("\t") for line in listed.splitlines())}
        return next((found[name] for name in wanted if name in found), None)

    def lengthened(self, short: str) -> str | None:
        """Return the whole commit for its first digits; needs the history of all branches and tags."""
        self._fetch_all("--filter=tree:0")
        found = self.tried("rev-parse", "--quiet", "--verify", f"{short}^{{commit}}")
        return found.strip() if found is not None else None

    def fetch(self, commit: str) -> None:
        """Have the files of the commit, its history and the tags in that."""
        if self.tried("fetch", "--quiet", "--no-tags", "--depth=1", "origin", f"{commit}:{_REF}") is None:
            # A server that offers whole branches only.
            self._fetch_all()
        elif (self._folder / "shallow").exists():
            # Of the history commits are enough, where the server can give them alone; tags come with them.
            self.run("fetch", "--quiet", "--unshallow", "--filter=tree:0", "origin", f"+{commit}:{_REF}")
        if self.tried("cat-file", "-e", f"{commit}^{{commit}}") is None:
            raise LockImpossibleError(
                f"the repository has no commit `{commit}`",
                where=Source(file=self._repository.shown),
                fix="check the commit; one that no branch or tag holds any more may be gone from the server",
            )

    def _fetch_all(self, *options: str) -> None:
        heads, tags = "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
        self.run("fetch", "--quiet", *options, "origin", heads, tags)

    def export(self, commit: str, archive: Path) -> None:
        """Write the files of the commit as a tar, with what its history says about its version."""
        links = [line for line in self.run("ls-tree", "-r", commit).splitlines() if line.startswith("160000 ")]
        if links:
            names = ", ".join(f"`{line.partition(chr(9))[2]}`" for line in links[:5])
            raise LockImpossibleError(
                f"the repository has submodules ({names}), which are not fetched: they name further places",
                where=Source(file=self._repository.shown),
                fix="name a released version of the package, or offer a wheel of it in an index",
            )
        # A build gets all files, as from a clone.
        disk.write_file(self._folder / "info" / "attributes", b"* -export-ignore\n")
        made = self._folder / "source.tar"
        self.run("archive", "--format=tar", "--prefix=source/", f"--output={made}", commit)
        if _wants_archival(made):
            text = self._archival(commit).encode()
            info = tarfile.TarInfo(f"source/{_ARCHIVAL}")
            info.size = len(text)
            with tarfile.open(made, "a") as tar:
                tar.addfile(info, io.BytesIO(text))
        archive.parent.mkdir(parents=True, exist_ok=True)
        made.replace(archive)

    def _archival(self, commit: str) -> str:
        """Return what setuptools-scm and its like read where there is no repository."""
        date = self.run("show", "--no-patch", "--format=%cI", commit).strip()
        described = self.tried("describe", "--tags", "--long", "--match=*[0-9]*", commit)
        lines = [f"node: {commit}", f"node-date: {date}"]
        if described is not None:
            lines.append(f"describe-name: {described.strip()}")
        return "\n".join([*lines, ""])


def _wants_archival(archive: Path) -> bool:
    """Tell whether the commit brings no such file, or one that is not filled in."""
    with tarfile.open(archive, "r:") as tar:
        try:
            stream = tar.extractfile(f"source/{_ARCHIVAL}")
        except KeyError:
            return True
        return stream is None or b"$Format:" in stream.read(1 << 16)
