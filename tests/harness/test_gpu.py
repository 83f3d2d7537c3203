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


def test_packed_trials_on_a_gpu_leave_the_records_of_trials_that_run_alone(here: Twinbench) -> None:
    four = (
        "methods=simclr",
        "baselines=false",
        "seeds=[0]",
        "confirm.seeds=[]",
        "epochs=2",
        "projector_width=[16, 32, 64, 128]",
    )
    here.run("alone", four, "--device", "cuda")
    here.run("packed", four, "--device", "cuda", "--pack", "4")
    assert max(record["circumstance"]["pack"] for record in here.records("packed")) == 4
    assert here.digests("packed") == here.digests("alone")
    assert {r["circumstance"]["cuda_graph"] for name in ("alone", "packed") for r in here.records(name)} == {True}


def test_the_fast_mode_is_recorded_and_ends_near_the_other(here: Twinbench) -> None:
    here.run("repro", ONE_TRIAL, "--device", "cuda")
    here.run("fast", ONE_TRIAL, "--device", "cuda", "--mode", "fast")
    (repro,), (fast,) = here.records("repro"), here.records("fast")
    assert (repro["circumstance"]["mode"], fast["circumstance"]["mode"]) == ("repro", "fast")
    for one, other in zip(repro["result"]["metrics"], fast["result"]["metrics"], strict=True):
        assert other["value"] == pytest.approx(one["value"], abs=0.03), one["name"]
