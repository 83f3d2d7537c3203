"""Limits of containers and jobs are respected, and a trial's peak memory is its own."""

from pathlib import Path

import pytest
import torch

from twinbench.harness.system import cgroups, devices, memory, provenance


def test_free_memory_is_bounded_by_the_cgroup_and_its_parents_and_includes_cached_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    for folder, limit, used, files in ((job, "1000", 900, 300), (tmp_path / "slurm", "max", 5000, 0)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\ninactive_file {files}\nactive_file 9\n")
    monkeypatch.setattr(cgroups, "_own", lambda: job)
    assert memory.available_bytes(torch.device("cpu")) == 1000 - 900 + 300 + 9


@pytest.mark.parametrize(("quota", "cores"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 4)])
def test_a_containers_cpu_quota_bounds_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    container = tmp_path / "container"
    container.mkdir()
    (container / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(cgroups, "_own", lambda: container)
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: range(4))
    assert devices.cores() == cores


def test_memory_of_other_processes_on_a_gpu_is_not_counted_as_a_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials take 20 each, the first 50 with its images. Others take 580 as the second begins, and leave as much."""
    free, reserved = iter([1000, 950, 350, 910, 24]), iter([0, 50, 70, 90, 110])
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (next(free), 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: next(reserved))
    room = memory.Room(torch.device("cuda"))
    assert [room.has_room_for_another() for _ in range(5)] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("CUDA error: out of memory", True),
        ("Triton Error [CUDA]: out of memory", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
    ],
)
def test_running_out_of_memory_is_distinguished_from_other_device_errors(words: str, expected: bool) -> None:
    assert memory.is_out_of_memory(RuntimeError(words)) is expected
    assert memory.is_out_of_memory(torch.OutOfMemoryError("")) and not memory.is_out_of_memory(ValueError(words))


class _Glibc:
    """Of a version that takes no block above 32 MiB from the heap, or of one that takes any."""

    def __init__(self, most: int) -> None:
        self.most, self.set_to = most, dict[int, int]()

    def mallopt(self, what: int, value: int) -> int:
        taken = what != memory._MMAP_THRESHOLD or value <= self.most
        self.set_to |= {what: value} if taken else {}
        return int(taken)


@pytest.mark.parametrize(("most", "kept"), [(2**25, 2**25), (2**62, 2**30)])
def test_freed_memory_is_kept_with_an_older_glibc_too(most: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = _Glibc(most)
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    memory.keep_freed_memory.__wrapped__()
    assert library.set_to == {memory._MMAP_THRESHOLD: kept, memory._TRIM_THRESHOLD: 2**30}


def test_the_peak_memory_of_a_small_trial_excludes_a_large_one_before_it() -> None:
    memory.keep_freed_memory()
    memory.give_back_freed_memory()  # what other tests left would be taken anew, and add nothing
    provenance.reset_peak_memory()
    before, large = provenance.peak_memory_bytes(), 2**29
    assert before
    del (held := [torch.ones(2**20) for _ in range(2**7)])[:]  # kept by the process, block by block
    after = provenance.peak_memory_bytes()
    assert after and after > before + 0.9 * large
    memory.give_back_freed_memory()
    provenance.reset_peak_memory()
    ended = provenance.peak_memory_bytes()
    assert ended and ended < before + 0.1 * large and not held
