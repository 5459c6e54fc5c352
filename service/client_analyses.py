"""The client's methods for analyses: of a study, of a suite, and of arms side by side."""

__all__ = ["AnalysisRequests"]

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Final

from service.client_arguments import checked_ids
from service.transport import Transport, path_segment
from studies.views import Page, SuiteSummary

if TYPE_CHECKING:
    # Slow to import, and most programs ask for none of them.
    from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
    from studies.analysis.power_views import StudyPower
    from studies.analysis.views import StudyAnalysis

# The analysis of a large study takes longer than a database query.
_ANALYSIS_TIMEOUT_S: Final = 300.0


class AnalysisRequests:
    """Reads of what studies found, with their reports."""

    _transport: Transport

    def analysis(self, study_id: str) -> "StudyAnalysis":
        """Return a study's analysis: the verdict, curves, checks and sensitivity."""
        from studies.analysis.views import StudyAnalysis

        return self._transport.get(
            StudyAnalysis, f"/v1/studies/{path_segment(study_id)}/analysis", timeout_s=_ANALYSIS_TIMEOUT_S
        )

    def power(self, study_id: str) -> "StudyPower":
        """Return the gap that a study could have detected, and the cost of detecting half of it."""
        from studies.analysis.power_views import StudyPower

        return self._transport.get(
            StudyPower, f"/v1/studies/{path_segment(study_id)}/power", timeout_s=_ANALYSIS_TIMEOUT_S
        )

    def report(self, study_id: str, *, form: str = "markdown") -> str:
        """Return a study's report as text: `markdown`, `html`, `latex` or `json`."""
        path = f"/v1/studies/{path_segment(study_id)}/report"
        return self._transport.send("GET", path, params={"format": form}, timeout=_ANALYSIS_TIMEOUT_S).text

    def bundle(self, study_id: str, into: IO[bytes]) -> None:
        """Write a study's bundle, a zip file with everything needed to run it again, into an open file."""
        self._transport.download(
            f"/v1/studies/{path_segment(study_id)}/bundle", into, timeout_s=_ANALYSIS_TIMEOUT_S
        )

    def suites(self) -> tuple[SuiteSummary, ...]:
        """Return all suites."""
        return self._transport.get(Page[SuiteSummary], "/v1/suites").items

    def suite(self, name: str) -> "SuiteAnalysis":
        """Return the analysis of a suite."""
        from studies.analysis.multi_study_views import SuiteAnalysis

        return self._transport.get(
            SuiteAnalysis, f"/v1/suites/{path_segment(name)}", timeout_s=_ANALYSIS_TIMEOUT_S
        )

    def comparison(self, study_ids: Sequence[str] = (), *, arms: Sequence[str] = ()) -> "Comparison":
        """Return arms of one workload, side by side.

        Args:
            study_ids: studies, all of whose arms are compared.
            arms: single arms, each the study's id and the arm's name joined by a dot.

        Raises:
            ProblemError: a study or an arm does not exist, there are too few, or the workloads differ.
        """
        from studies.analysis.multi_study_views import Comparison

        asked = {"study": checked_ids(study_ids), "arm": checked_ids(arms)}
        return self._transport.get(Comparison, "/v1/comparison", asked, timeout_s=_ANALYSIS_TIMEOUT_S)
