"""Seeds determine initialisation, data order and noise, and leave the caller's generator alone."""

import torch

from workers.seeding import epoch_order, initialisation_seed, noise_seed, seeded

__all__: list[str] = []

CPU = torch.device("cpu")


def test_seeds_never_change_between_releases() -> None:
    # The database stores seeds: if these numbers changed, stored trials could no longer be repeated.
    assert initialisation_seed(0) == 5634659350049889
    assert noise_seed(0, epoch=1) == 6768753407285604
    assert epoch_order(0, epoch=1, examples=6).tolist() == [1, 3, 4, 0, 2, 5]


def test_initialisation_order_and_noise_are_distinct_streams() -> None:
    assert len({0, initialisation_seed(0), *(noise_seed(0, epoch=epoch) for epoch in range(1, 100))}) == 101


def test_an_epoch_shows_every_example_once_and_each_epoch_in_another_order() -> None:
    first, second = epoch_order(7, epoch=1, examples=1000), epoch_order(7, epoch=2, examples=1000)
    assert first.sort().values.tolist() == list(range(1000))
    assert not torch.equal(first, second)


def test_the_order_depends_on_neither_threads_nor_the_global_generator() -> None:
    expected = epoch_order(7, epoch=3, examples=100_000)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.rand(5)
        assert torch.equal(epoch_order(7, epoch=3, examples=100_000), expected)
    finally:
        torch.set_num_threads(threads)


def test_a_seeded_block_draws_the_same_numbers_and_restores_the_callers_generator() -> None:
    before = torch.get_rng_state()
    with seeded(3, device=CPU):
        first = torch.rand(4)
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.rand(1)
    with seeded(3, device=CPU):
        assert torch.equal(torch.rand(4), first)
