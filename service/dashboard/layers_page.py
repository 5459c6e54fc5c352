"""The page of every layer of an arm, of which a study's page loads the charts when they are opened."""

__all__ = ["arm_layers_html"]

from service.dashboard.figures import arm_layer_charts
from service.dashboard.rendering import render
from studies.errors import ArmNotFound
from studies.store import Store


def arm_layers_html(store: Store, study_id: str, arm_name: str) -> str:
    """Return the page.

    Raises:
        StudyNotFound, ArmNotFound: the study or the arm does not exist.
    """
    study, arms = store.study(study_id), {arm.name: arm for arm in store.arms(study_id)}
    if arm_name not in arms:
        raise ArmNotFound(study_id, arm_name, list(arms))
    arm = arms[arm_name]
    layers = next((of for of in store.study_layers(study_id).arms if of.arm == arm_name), None)
    charts = () if layers is None else arm_layer_charts(arm, layers)
    return render(
        "study_layers.html",
        study=study,
        arm=arm,
        charts=charts,
        has_charts=bool(charts),
        json_url=f"/v1/studies/{study_id}/layers",
    )
