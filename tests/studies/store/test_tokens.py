"""API tokens: a secret is shown once and never stored."""

import threading
from pathlib import Path

import pytest

from studies.errors import Conflict, SpecInvalid, TokenNotFound
from studies.store import Store

__all__: list[str] = []


def test_a_secret_authenticates_its_token(store: Store) -> None:
    secret = store.create_token("ada", role="submitter")
    found = store.authenticate(secret)
    assert found is not None
    assert (found.name, found.role, found.revoked_at) == ("ada", "submitter", None)
    assert found.created_at.tzinfo is not None


def test_secrets_are_long_and_all_different(store: Store) -> None:
    secrets = {store.create_token(f"t{n}", role="viewer") for n in range(10)}
    assert len(secrets) == 10
    assert all(secret.startswith("tangent_") and len(secret) >= 8 + 43 for secret in secrets), "256 bits"


def test_only_a_digest_of_the_secret_is_stored(store: Store) -> None:
    secret = store.create_token("ada", role="admin")
    with store._database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM token").all()
    assert len(rows) == 1
    assert secret not in str(rows)
    assert secret.removeprefix("tangent_") not in str(rows)


def test_no_file_of_the_database_holds_the_secret(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    secret = store.create_token("ada", role="admin").encode()
    store.authenticate(secret.decode())
    files = list(tmp_path.iterdir())
    assert len(files) >= 2, "both the database and its log must exist"
    assert not any(secret in path.read_bytes() for path in files)
    store.close()


def test_no_other_text_authenticates(store: Store) -> None:
    secret = store.create_token("ada", role="admin")
    for wrong in (
        "",
        "ada",
        secret[:-1],
        secret + "x",
        secret.upper(),
        "tangent_",
        "\0",
        "\ud800",
        "x" * 100_000,
    ):
        assert store.authenticate(wrong) is None


def test_a_revoked_token_does_not_authenticate_and_stays_listed(store: Store) -> None:
    secret, other = store.create_token("ada", role="admin"), store.create_token("bob", role="viewer")
    store.revoke_token("ada")
    assert store.authenticate(secret) is None
    assert store.authenticate(other) is not None
    ada, bob = store.tokens()
    assert (ada.name, bob.name, bob.revoked_at) == ("ada", "bob", None)
    assert ada.revoked_at is not None
    store.revoke_token("ada")
    assert store.tokens()[0].revoked_at == ada.revoked_at, "the time of the first revocation must be kept"


def test_last_used_at_is_updated_once_a_minute(store: Store) -> None:
    secret = store.create_token("ada", role="viewer")
    assert store.tokens()[0].last_used_at is None
    store.authenticate(secret)
    first = store.tokens()[0].last_used_at
    assert first is not None
    store.authenticate(secret)
    assert store.tokens()[0].last_used_at == first


def test_the_name_of_a_revoked_token_stays_taken(store: Store) -> None:
    store.create_token("ada", role="viewer")
    store.revoke_token("ada")
    with pytest.raises(Conflict, match="'ada'"):
        store.create_token("ada", role="viewer")
    assert len(store.tokens()) == 1


def test_concurrent_requests_for_one_name_create_one_token(store: Store) -> None:
    secrets: list[str] = []
    raised: list[BaseException] = []
    barrier = threading.Barrier(4)

    def create() -> None:
        barrier.wait()
        try:
            secrets.append(store.create_token("ada", role="viewer"))
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            raised.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(secrets), [type(error) for error in raised]) == (1, [Conflict] * 3)


def test_a_name_that_cannot_be_printed_or_stored_is_refused(store: Store) -> None:
    for name in ("", "x" * 65, "a\nb", "a\0b", "\ud800"):
        with pytest.raises(SpecInvalid) as refused:
            store.create_token(name, role="viewer")
        assert [problem.pointer for problem in refused.value.problems] == ["/name"]
    assert store.tokens() == ()
    assert store.create_token("Ada's laptop 🐙", role="viewer")


def test_a_missing_token_cannot_be_revoked(store: Store) -> None:
    for name in ("nobody", "", "a\0b"):
        with pytest.raises(TokenNotFound):
            store.revoke_token(name)


def test_revoking_a_token_twice_changes_nothing(store: Store) -> None:
    store.create_token("ada", role="submitter")
    store.revoke_token("ada")
    (first,) = store.tokens()
    store.revoke_token("ada")
    assert store.tokens() == (first,)
    assert [entry.verb for entry in store.audit().items] == ["token.revoke", "token.create"]
