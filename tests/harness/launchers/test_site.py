"""Claims: a site file and the command line together state what a job requests, and every mistake is reported."""

from pathlib import Path

import pytest

from twinbench.harness.launchers.site import RaySite, SlurmSite, read_site
from twinbench.harness.launchers.slurm import sbatch_parameters
from twinbench.sweeps.errors import InvalidInput

FILE = """
[slurm]
partition = "gpu"
time = "1-02:30:01"
gpus = 2
setup = ["module load cuda"]

[slurm.sbatch]
licenses = "scratch"

[ray]
gpus = 0.5
labels = { "ray.io/accelerator-type" = "H100" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(FILE)
    return path


def test_the_command_line_changes_what_the_site_file_says(file: Path) -> None:
    site = read_site(SlurmSite, "slurm", file, ["gpus=1", "qos=low", "sbatch.nice=100"])
    assert (site.partition, site.gpus, site.qos) == ("gpu", 1, "low")
    assert site.sbatch == {"licenses": "scratch", "nice": 100}
    assert read_site(RaySite, "ray", file, []).labels == {"ray.io/accelerator-type": "H100"}


@pytest.mark.parametrize(
    ("time", "minutes"), [(90, 90), ("90", 90), ("01:30:00", 90), ("00:00:30", 1), ("1-02:30:01", 26 * 60 + 31)]
)
def test_a_time_is_read_as_slurm_reads_it(time: str | int, minutes: int) -> None:
    assert SlurmSite(time=time).minutes == minutes


def test_all_mistakes_are_listed_at_once(file: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_site(SlurmSite, "slurm", file, ["partitoin=x", "gpus=-1"])
    text = str(caught.value)
    assert "did you mean 'partition'?" in text and "gpus" in text and "at least 0" in text
    with pytest.raises(InvalidInput, match="is not a time"):
        read_site(SlurmSite, "slurm", None, ["time=soon"])
    with pytest.raises(InvalidInput, match=r"is not a time.*\n.*job-name: has a comma"):
        read_site(SlurmSite, "slurm", None, ["time=soon", 'sbatch.job-name="a,b"'])
    with pytest.raises(InvalidInput, match="KEY=VALUE"):
        read_site(SlurmSite, "slurm", None, ["gpus"])
    file.write_text("[slrum]\n")
    with pytest.raises(InvalidInput, match="did you mean 'slurm'"):
        read_site(SlurmSite, "slurm", file, [])


def test_what_is_requested_reaches_the_batch_script(file: Path) -> None:
    parameters = sbatch_parameters(read_site(SlurmSite, "slurm", file, []), slots=7, code=Path("/a b/code"))
    assert parameters["partition"] == "gpu" and parameters["time"] == 26 * 60 + 31 and parameters["gpus_per_node"] == 2
    assert parameters["array_parallelism"] == 7 and parameters["signal_delay_s"] == 90
    assert parameters["additional_parameters"] == {"requeue": True, "licenses": "scratch"}
    path = "export PYTHONPATH='/a b/code'${PYTHONPATH:+:$PYTHONPATH}"
    assert parameters["setup"] == ["module load cuda", path, "export PYTHONSAFEPATH=1"]
    assert "account" not in parameters


def test_a_mistake_names_the_option_that_gave_the_value_or_else_the_file(file: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_site(SlurmSite, "slurm", file, ["gpus=1\nqos='low'", "time.x=3"])
    assert str(caught.value) == "--slurm: time.x: time is not a table (seen: '1-02:30:01')"
    file.write_text("[slurm]\ncpus = -1\n")
    with pytest.raises(InvalidInput) as caught:
        read_site(SlurmSite, "slurm", file, ["gpus=1\nqos='low'", "time=soon"])
    gpus, cpus = map(str, caught.value.mistakes)
    assert cpus.startswith(f"{file}: cpus: ") and gpus.startswith("--slurm: gpus: ") and "qos" in gpus
