import pickle

import torch
from two_processes import normalize_rows, run_in_two_processes, share_a_batch, spectrum_rows

from vqmae_hf.modeling.across_processes import BatchRowsGenerator, batch_share, draw_rows


def test_batch_normalisation_is_that_of_all_rows(tmp_path):
    norm = torch.nn.BatchNorm1d(4)
    rows = torch.cat(spectrum_rows()).requires_grad_()
    normalized = norm(rows)
    normalized.pow(3).sum().backward()
    results = [process["result"] for process in run_in_two_processes(normalize_rows, tmp_path)]
    for name, expected in (("normalized", normalized.detach()), ("gradient", rows.grad)):
        torch.testing.assert_close(torch.cat([result[name] for result in results]), expected, rtol=1e-4, atol=1e-5)
    for result in results:
        torch.testing.assert_close(result["mean"], norm.running_mean)
        torch.testing.assert_close(result["var"], norm.running_var)


def test_shares_make_the_average_of_means_the_mean_and_draws_are_parts_of_one(tmp_path):
    first, second = (process["result"] for process in run_in_two_processes(share_a_batch, tmp_path))
    torch.testing.assert_close(first["shares"], torch.tensor([6 / 7, 2.0]))
    torch.testing.assert_close(second["shares"], torch.tensor([8 / 7, 0.0]))
    assert first["nobody"] == second["nobody"] == 0
    whole = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.cat([first["draw"], second["draw"]]), whole)


def test_alone_a_process_has_the_whole_batch():
    assert batch_share(3, torch.device("cpu")) == 1
    generator = torch.Generator().manual_seed(7)
    expected = torch.rand(2, 3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(draw_rows(torch.rand, (2, 3), generator, "cpu"), expected)


def test_a_generator_goes_on_where_it_was_after_a_loaders_worker_has_sent_it():
    generator = BatchRowsGenerator(start=1, num_rows=4)
    generator.manual_seed(3)
    torch.rand(5, generator=generator)
    copy = pickle.loads(pickle.dumps(generator))
    assert (copy.start, copy.num_rows) == (1, 4)
    assert torch.equal(draw_rows(torch.rand, (2, 2), copy, "cpu"), draw_rows(torch.rand, (2, 2), generator, "cpu"))
