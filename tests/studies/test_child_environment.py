"""Which variables child processes receive."""

import pytest

from studies.child_environment import (
    CREDENTIALS,
    DEFAULT_VARIABLES,
    passed_variables,
    service_environment,
    trial_environment,
)

__all__: list[str] = []

GIVEN = {
    **dict.fromkeys(CREDENTIALS, "secret"),
    "TANGENT_URL": "http://tangent.lab",
    "PATH": "/bin",
    "CUDA_VISIBLE_DEVICES": "0",
    "HF_TOKEN": "hf",
    "WANDB_MODE": "offline",
    "SOMETHING": "else",
}


def test_trials_receive_the_usual_variables_and_no_others() -> None:
    assert trial_environment(GIVEN) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}


def test_trials_receive_what_the_setting_lists_but_never_a_credential_of_the_service() -> None:
    listed = trial_environment(GIVEN | {"TANGENT_TRIAL_ENVIRONMENT": "HF_TOKEN, WANDB_*, TANGENT_*, PG*"})
    assert listed.keys() == {"PATH", "CUDA_VISIBLE_DEVICES", "HF_TOKEN", "WANDB_MODE", "TANGENT_URL"} | {
        "TANGENT_TRIAL_ENVIRONMENT"
    }


@pytest.mark.parametrize("text", ["TANGENT_TOKEN", "PATH,TANGENT_DATABASE_URL", "*", "A B", "=", "a*b"])
def test_a_list_with_a_credential_or_without_names_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"credential|expected names"):
        passed_variables(text)


def test_a_dispatcher_receives_the_database_but_no_token_of_a_client() -> None:
    kept = service_environment(GIVEN)
    assert kept.keys() == GIVEN.keys() - {
        "TANGENT_TOKEN",
        "TANGENT_TOKEN_FILE",
        "TANGENT_FIRST_TOKEN_FILE",
        "TANGENT_URL",
    }


@pytest.mark.parametrize(
    ("given", "passed"),
    [("", None), (":", None), (".:/a", "/a"), ("/a::b:/c", "/a:/c"), ("/a", "/a")],
)
def test_relative_folders_leave_the_import_path(given: str, passed: str | None) -> None:
    for environment in (service_environment({"PYTHONPATH": given}), trial_environment({"PYTHONPATH": given})):
        assert environment.get("PYTHONPATH") == passed


def test_no_default_variable_is_a_credential() -> None:
    assert not CREDENTIALS & set(DEFAULT_VARIABLES)
    assert trial_environment(dict.fromkeys(CREDENTIALS, "secret")) == {}
