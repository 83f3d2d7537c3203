"""Claims: a trial leaves one whole record, the same one if it is killed and resumed; a failure leaves one, too."""

import functools
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load
from torch import Tensor, nn
from trial_runs import run_trial

from twinbench.harness.evaluation.evaluate import Evaluator
from twinbench.harness.planning import Plan
from twinbench.harness.training import loop
from twinbench.harness.training.checkpoint import Progress, load_state, save_state
from twinbench.harness.training.kernels import FAST
from twinbench.harness.trial import execute
from twinbench.harness.trial.execute import Surroundings, build_method
from twinbench.harness.trial.worker import Unwritable
from twinbench.methods.registry import METHODS
from twinbench.results.attempts import trial_folder
from twinbench.results.record import read_artefact, read_record, record_path
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]


def _trial(planned: Plan, method: str) -> Trial:
    return next(trial for trial in planned.trials if trial.method == method)


def _record(folder: Path, trial: Trial) -> dict[str, Any]:
    return read_record(record_path(folder, trial.trial_id))


@pytest.mark.parametrize(
    "method",  # BYOL keeps the most between steps
    [pytest.param(name, marks=() if name == "byol" else pytest.mark.slow) for name in METHODS],
)
def test_a_trial_stopped_after_every_step_leaves_the_record_of_an_uninterrupted_run(
    tiny_plan: Planner, tmp_path: Path, method: str
) -> None:
    trial = _trial(tiny_plan(f"methods={method}"), method)
    assert run_trial(trial, Surroundings(tmp_path / "whole")) == "done"
    whole = _record(tmp_path / "whole", trial)

    statuses = []
    for _ in range(8):  # two epochs of four steps
        statuses.append(run_trial(trial, Surroundings(tmp_path / "parts"), lambda: True))
        assert not record_path(tmp_path / "parts", trial.trial_id).exists()
    assert statuses == ["interrupted"] * 8
    statuses.append(run_trial(trial, Surroundings(tmp_path / "parts"), lambda: True))
    assert statuses[-1] == "interrupted"  # at the first check during the evaluation
    statuses.append(run_trial(trial, Surroundings(tmp_path / "parts")))
    parts = _record(tmp_path / "parts", trial)

    assert statuses[-1] == "done"
    assert parts["result_digest"] == whole["result_digest"]
    assert parts["result"]["curves"] == whole["result"]["curves"]
    assert parts["circumstance"]["attempts"] == len(statuses)
    assert not list((tmp_path / "parts" / "trials").rglob("state.pt*"))


KILLED_AT_STEP_6 = """
import itertools, json, os, pathlib, signal, sys
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import run_pack
from twinbench.sweeps.trial import Trial

calls = itertools.count(1)
run_pack(
    [Trial(**json.load(sys.stdin))],
    Surroundings(pathlib.Path(sys.argv[1])),
    lambda: next(calls) == 6 and os.kill(os.getpid(), signal.SIGKILL),
)
"""


def test_a_trial_killed_by_sigkill_resumes_from_its_last_epoch_to_the_same_record(
    tiny_plan: Planner, tmp_path: Path
) -> None:
    trial = _trial(tiny_plan("methods=barlow_twins", "epochs=3"), "barlow_twins")
    run_trial(trial, Surroundings(tmp_path / "whole"))
    command = [sys.executable, "-c", KILLED_AT_STEP_6, str(tmp_path / "killed")]
    killed = subprocess.run(command, input=json.dumps(trial.content()), text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "trials" / trial.trial_id / "state.pt").exists()
    steps: list[int] = []
    original = loop._step

    def spy(*arguments: Any) -> Any:
        steps.append(original(*arguments).step)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", spy)
        run_trial(trial, Surroundings(tmp_path / "killed"))
    assert steps[0] == 4  # four steps an epoch: the first epoch is not repeated
    digests = [_record(tmp_path / name, trial)["result_digest"] for name in ("whole", "killed")]
    assert digests[0] == digests[1]


def _of_another_trial(state: Path, plan: Planner) -> None:
    other = _trial(plan("methods=byol", "seeds=[7]"), "byol")
    run_trial(other, Surroundings(state.parents[2]), lambda: True)
    state.write_bytes((state.parents[1] / other.trial_id / "state.pt").read_bytes())


def _of_another_network(state: Path, plan: Planner) -> None:
    """As if it were this trial's: all that tells is the number of its weights."""
    content = torch.load(state, weights_only=True)
    content["method"] = {name: values[:1] if values.dim() else values for name, values in content["method"].items()}
    torch.save(content, state)


def _one_bit_flipped(state: Path, plan: Planner) -> None:
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


def _a_folder(state: Path, plan: Planner) -> None:
    state.unlink()
    state.mkdir()


def _a_pipe(state: Path, plan: Planner) -> None:
    state.unlink()
    os.mkfifo(state)


DAMAGES: dict[str, Callable[[Path, Planner], object]] = {
    "empty": lambda state, _: state.write_bytes(b""),
    "cut": lambda state, _: state.write_bytes(state.read_bytes()[:-1000]),
    "cut to its end": lambda state, _: state.write_bytes(state.read_bytes()[-1000:]),
    "a bit": _one_bit_flipped,
    "a pickle": lambda state, _: state.write_bytes(pickle.dumps(Path("x"))),
    "another file of torch": lambda state, _: torch.save({"weights": torch.ones(3)}, state),
    "of a class": lambda state, _: torch.save(nn.Linear(1, 1), state),
    "of another trial": _of_another_trial,
    "of another network": _of_another_network,
    "a folder": _a_folder,
    "a pipe": _a_pipe,
}


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=() if name in ("cut", "a bit") else pytest.mark.slow) for name in DAMAGES]
)
def test_a_damaged_state_is_set_aside_and_the_trial_starts_anew(
    tiny_plan: Planner, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    trial = _trial(tiny_plan("methods=byol"), "byol")
    whole = tmp_path / "whole"
    assert run_trial(trial, Surroundings(whole)) == "done"
    folder = trial_folder(tmp_path, trial.trial_id)
    calls = itertools.count(1)
    run_trial(trial, Surroundings(tmp_path), lambda: next(calls) == 6)
    DAMAGES[damage](folder / "state.pt", tiny_plan)
    capfd.readouterr()
    assert run_trial(trial, Surroundings(tmp_path)) == "done"
    assert _record(tmp_path, trial)["result_digest"] == _record(whole, trial)["result_digest"]
    assert [file.name for file in folder.glob("state.pt*")] == ["state.pt.damaged"]
    assert "state.pt cannot be restored" in capfd.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's privileges, so it needs them")
@pytest.mark.slow
def test_a_state_that_may_not_be_read_is_set_aside(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    save_state(tmp_path, Progress(epoch=1), network, torch.optim.SGD(network.parameters()))
    (tmp_path / "state.pt").chmod(0)
    code = (
        "import pathlib, sys, torch; from twinbench.harness.training.checkpoint import load_state; "
        "network = torch.nn.Linear(2, 2); optimiser = torch.optim.SGD(network.parameters()); "
        "print(load_state(pathlib.Path(sys.argv[1]), network, optimiser, torch.device('cpu')).epoch)"
    )
    unprivileged = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    done = subprocess.run([*unprivileged, sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert "PermissionError" in done.stdout and done.stdout.endswith("\n0\n"), done.stderr
    assert (tmp_path / "state.pt.damaged").exists()


def test_a_state_is_kept_if_memory_ran_out_as_it_was_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, optimiser = nn.Linear(2, 2), torch.optim.SGD([torch.zeros(1)])
    save_state(tmp_path, Progress(epoch=1), network, optimiser)

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(optimiser, "load_state_dict", no_memory)
        load_state(tmp_path, network, optimiser, torch.device("cpu"))
    assert load_state(tmp_path, network, optimiser, torch.device("cpu")).epoch == 1


def test_a_state_that_is_slow_to_save_is_saved_after_the_first_and_the_last_epoch(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_plan("methods=barlow_twins", "epochs=4"), "barlow_twins")
    saved: list[int] = []

    def slowly(folder: Path, progress: Any, *others: Any) -> None:
        saved.append(progress.epoch)
        time.sleep(0.3)

    monkeypatch.setattr(loop, "save_state", slowly)
    run_trial(trial, Surroundings(tmp_path))
    assert saved == [1, 4]


def test_a_result_does_not_depend_on_what_ran_before_in_the_process(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = _trial(tiny_plan("methods=simclr"), "simclr")
    run_trial(trial, Surroundings(tmp_path / "a"))
    torch.rand(7)  # would change a trial that draws from the global generator
    run_trial(trial, Surroundings(tmp_path / "b"))
    assert _record(tmp_path / "a", trial)["result_digest"] == _record(tmp_path / "b", trial)["result_digest"]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo reads it from every input
def test_nothing_is_compiled_for_an_evaluation(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_plan("methods=simclr"), "simclr")
    graphs, by_evaluation = list[torch.fx.GraphModule](), list[int]()

    def counts(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def watched(name: str) -> None:
        original = getattr(Evaluator, name)

        def measured(*given: Any) -> Any:
            before = len(graphs)
            found = original(*given)
            by_evaluation.append(len(graphs) - before)
            return found

        monkeypatch.setattr(Evaluator, name, measured)

    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend=counts))
    monkeypatch.setattr(execute, "mode_of", lambda surroundings: FAST)
    watched("diagnose")
    watched("evaluate")
    config = torch._dynamo.config
    limits = {name: getattr(config, name) for name in ("recompile_limit", "accumulated_recompile_limit")}
    with config.patch(limits):  # restores the limits
        assert run_trial(trial, Surroundings(tmp_path)) == "done"
    torch._dynamo.reset()
    assert graphs and by_evaluation == [0, 0]  # during training, and at the end


def test_a_non_finite_loss_ends_the_trial_as_diverged_and_keeps_its_curves(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_plan("methods=simclr"), "simclr")
    original = METHODS["simclr"].loss

    def loss(self: Any, views: Any, step: Any) -> Any:
        terms = original(self, views, step)
        return type(terms)(terms.total * float("nan"), terms.parts) if step.step == 5 else terms

    monkeypatch.setattr(METHODS["simclr"], "loss", loss)
    assert run_trial(trial, Surroundings(tmp_path)) == "diverged"
    record = _record(tmp_path, trial)
    assert "step 6 of 8" in record["result"]["reason"]
    assert record["result"]["metrics"] == []
    assert json.loads(read_artefact(tmp_path, record["result"]["curves"]))["epoch"] == [1]


def test_non_finite_weights_after_the_last_update_are_not_evaluated(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image would be classified as class 0, which looks like an accuracy."""
    trial = _trial(tiny_plan("methods=simclr"), "simclr")

    def spoil(self: Any, step: Any) -> None:
        if step.step == step.steps - 1:
            self.backbone.conv1.weight.data[0] = float("inf")

    monkeypatch.setattr(METHODS["simclr"], "after_update", spoil)
    assert run_trial(trial, Surroundings(tmp_path)) == "diverged"
    record = _record(tmp_path, trial)
    assert "backbone.conv1.weight" in record["result"]["reason"] and record["result"]["metrics"] == []


def test_a_resumed_trial_that_fails_at_once_keeps_the_curves_of_its_first_attempt(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_plan("methods=simclr"), "simclr")
    steps = iter(range(100))
    assert run_trial(trial, Surroundings(tmp_path), lambda: next(steps) == 5) == "interrupted"

    def broken(*_: Any) -> Any:
        raise RuntimeError("no more")

    monkeypatch.setattr(METHODS["simclr"], "loss", broken)
    assert run_trial(trial, Surroundings(tmp_path)) == "failed"
    record = _record(tmp_path, trial)
    assert json.loads(read_artefact(tmp_path, record["result"]["curves"]))["epoch"] == [1]
    assert record["circumstance"]["images_seen"] == 6 * 256


def test_a_trial_that_raises_is_recorded_with_its_reason_and_traceback(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_plan("methods=simclr"), "simclr")

    def broken(*_: Any) -> Any:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(execute, "build_method", broken)
    assert run_trial(trial, Surroundings(tmp_path)) == "failed"
    record = _record(tmp_path, trial)
    assert record["result"]["reason"] == "RuntimeError: the disk is on fire"
    assert "Traceback" in record["circumstance"]["traceback"]


def test_a_trial_refuses_data_with_another_fingerprint(tiny_plan: Planner, tmp_path: Path) -> None:
    content = _trial(tiny_plan("methods=simclr"), "simclr").content() | {"dataset_fingerprint": "sha256:other"}
    trial = Trial(**content)
    assert run_trial(trial, Surroundings(tmp_path)) == "failed"
    assert "sha256:other" in _record(tmp_path, trial)["result"]["reason"]


def test_per_example_correctness_averages_to_the_reported_accuracy(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = _trial(tiny_plan(), "raw_pixels")
    run_trial(trial, Surroundings(tmp_path))
    result = _record(tmp_path, trial)["result"]
    outputs = load(read_artefact(tmp_path, result["outputs"]))
    assert {metric["selected_on"] for metric in result["metrics"]} == {"validation"}
    on_test = {metric["name"]: metric["value"] for metric in result["metrics"] if metric["split"] == "test"}
    assert on_test.keys() == {"knn_top1", "linear_top1"}
    for name, value in on_test.items():
        probe = name.removesuffix("_top1")
        assert outputs[f"{probe}_correct"].mean() == pytest.approx(value)
        assert ((outputs[f"{probe}_prediction"] == outputs["labels"]) == outputs[f"{probe}_correct"]).all()


def test_methods_of_one_seed_start_from_the_same_backbone(tiny_plan: Planner) -> None:
    planned = tiny_plan('methods=["barlow_twins", "simclr"]')
    first, second = (build_method(_trial(planned, name), torch.device("cpu")) for name in ("barlow_twins", "simclr"))
    pairs = list(zip(first.backbone.parameters(), second.backbone.parameters(), strict=True))
    assert len(pairs) > 10 and all(torch.equal(a, b) for a, b in pairs)


def test_a_trial_is_collapsed_if_the_protocol_sets_a_limit() -> None:
    progress = Progress(epochs=[1], curves={"diagnostics/feature_std": [0.01]})
    assert execute._judge(0.05, progress)[0] == "collapsed"
    assert execute._judge(0.005, progress) == ("done", "")
    assert execute._judge(None, progress) == ("done", "")


def test_a_cache_that_cannot_be_used_stops_the_worker_and_fails_no_trial(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = _trial(tiny_plan("methods=simclr"), "simclr")
    (tmp_path / "cache").touch()
    surroundings = Surroundings(tmp_path / "run", cache=tmp_path / "cache")
    with pytest.raises(Unwritable, match="TWINBENCH_CACHE: the cache cannot be used: Not a directory"):
        run_trial(trial, surroundings)
    assert not record_path(tmp_path / "run", trial.trial_id).exists()
    assert run_trial(trial, Surroundings(tmp_path / "run")) == "done"
