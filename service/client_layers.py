"""The client's methods for what the layers of models measured."""

__all__ = ["LayerRequests"]

from service.transport import Transport, path_segment
from studies.layers import StudyLayers, TrialLayers


class LayerRequests:
    """Reads of what layers measured in confirmation runs and trials of the defaults."""

    _transport: Transport

    def trial_layers(self, trial_id: str) -> TrialLayers:
        """Return what each layer of a trial's model measured; without a layer if it measured none."""
        return self._transport.get(TrialLayers, f"/v1/trials/{path_segment(trial_id)}/layers")

    def study_layers(self, study_id: str) -> StudyLayers:
        """Return what each layer measured on average over an arm's runs, and which are scale-invariant."""
        return self._transport.get(StudyLayers, f"/v1/studies/{path_segment(study_id)}/layers")
