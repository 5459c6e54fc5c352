"""The client's methods for files that studies keep."""

__all__ = ["ArtifactRequests"]

from collections.abc import Callable
from pathlib import Path

from service.downloads import download
from service.transport import Transport, path_segment
from studies.artifacts import ArtifactView
from studies.views import Page


class ArtifactRequests:
    """Lists and downloads of the files that studies keep."""

    _transport: Transport

    def artifacts(self, study_id: str) -> tuple[ArtifactView, ...]:
        """Return the files that a study keeps, such as weights, and those that it could not keep."""
        return self._transport.get(
            Page[ArtifactView], f"/v1/studies/{path_segment(study_id)}/artifacts"
        ).items

    def trial_artifacts(self, trial_id: str) -> tuple[ArtifactView, ...]:
        """Return the files of a trial that its study keeps, and those that it could not keep."""
        return self._transport.get(Page[ArtifactView], f"/v1/trials/{path_segment(trial_id)}/artifacts").items

    def download(
        self,
        artifact: ArtifactView,
        path: str | Path,
        *,
        on_progress: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Download a kept file, and verify its checksum. An interrupted download continues.

        Args:
            artifact: the file, from `artifacts`.
            path: where to write it; a file there is replaced once all has come.
            on_progress: called with the bytes that have come so far.

        Raises:
            DownloadFailed: the file is not kept, or its checksum is wrong.
            OSError: it cannot be written.
        """
        download(self._transport, artifact, Path(path), on_progress=on_progress)
