"""Claims: a sweep on a GPU ends as one on a processor does, whoever shares the GPU and whoever dies."""

import os
import signal

import pytest
import torch
from launching import FEW_TRIALS, ONE_TRIAL, Twinbench, end_well

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def test_trials_share_a_gpu_from_the_first_of_each_worker_on(here: Twinbench) -> None:
    here.run("shared", FEW_TRIALS, "--device", "cuda", "--workers-per-gpu", "2")
    records = here.records("shared")
    assert {record["result"]["status"] for record in records} == {"done"}
    assert {record["circumstance"]["device"] for record in records} == {torch.cuda.get_device_name()}
    assert all(record["circumstance"]["peak_memory_bytes"] > 0 for record in records)
    assert here.digests("shared").keys() == here.digests("few").keys()


def test_a_trial_that_is_killed_on_a_gpu_goes_on_to_the_undisturbed_accuracy(here: Twinbench) -> None:
    here.run("undisturbed", ONE_TRIAL, "--device", "cuda")
    driver = here.start_run("killed", ONE_TRIAL, "--device", "cuda")
    os.kill(here.wait_for_progress("killed")[0]["pid"], signal.SIGKILL)
    end_well(driver)
    (last,) = here.attempts("killed")
    assert last["number"] == 2 and last["from_step"] > 0
    (one,), (two,) = here.records("undisturbed"), here.records("killed")
    for before, after in zip(one["result"]["metrics"], two["result"]["metrics"], strict=True):
        # not bit for bit: a GPU may add in another order
        assert after["value"] == pytest.approx(before["value"], abs=0.02), before["name"]
