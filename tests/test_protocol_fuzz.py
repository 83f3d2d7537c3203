"""Whatever a protocol of fitting digests holds, the commands that read results end with one or with a clean error."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_cases import Sound, call, sound_folder
from pydantic import TypeAdapter, ValidationError

from twinbench.results.protocol_content import CheckedProtocol
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import content_hash
from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.trial import Trial

CONTENT = read_protocol("digits-small").content
PATHS = [
    *((key,) for key in CONTENT),
    *((table, key) for table in ("backbone", "evaluation") for key in CONTENT[table]),
    *(
        ("dataset", "name"),
        ("dataset", "train_examples"),
        ("training", "epochs"),
        ("methods", "simclr"),
        ("views", 0),
        ("evaluation", "metrics", "linear_top1"),
    ),
]
VALUES = (5, "x", [], {}, None, -1, 1e308)
COMMANDS = (("report", "run"), ("check", "claims.toml", "run"))


@pytest.fixture(scope="module")
def sound() -> Iterator[Sound]:
    with sound_folder() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_commands_end_well_whatever_a_key_of_the_protocol_holds(
    path: tuple[Any, ...], sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = []
    for number, value in enumerate(_unlike(path)):
        folder = sound.folder.with_name(f"{'.'.join(map(str, path))}-{number}")
        shutil.copytree(sound.folder, folder)
        monkeypatch.chdir(folder)
        for file in Path("run/records").iterdir():
            _rewrite(file, path, value)
        for command in COMMANDS:
            done = call(*command)
            if done.crash or done.code not in (0, 1, 2) or (done.code == 2 and not done.err.startswith("error: ")):
                faults.append(f"{path} = {value!r}: {command[0]}: {done.crash or done.err}")
        shutil.rmtree(folder)
    assert not faults, "\n".join(faults)


def _unlike(path: tuple[Any, ...]) -> list[Any]:
    """Return the values that are taken at this key, and one of those that are refused, which are alike to a reader."""
    taken, refused = [], []
    for value in VALUES:
        try:
            TypeAdapter(CheckedProtocol).validate_python(_changed(read_protocol("digits-small").carried, path, value))
            taken.append(value)
        except ValidationError:
            refused.append(value)
    return taken + refused[:1]


def _changed(protocol: Any, path: tuple[Any, ...], value: Any) -> Any:
    content = json.loads(json.dumps(protocol["content"]))
    *tables, last = path
    table = content
    for key in tables:
        table = table[key]
    table[last] = value
    return protocol | {"content": content, "hash": content_hash(content)}


def _rewrite(file: Path, path: tuple[Any, ...], value: Any) -> None:
    """Give a record this value in its protocol, with the ids and digests of the result, as a careful forger would."""
    record = json.loads(file.read_bytes())
    result = record["result"]
    result["trial"]["protocol"] = _changed(result["trial"]["protocol"], path, value)
    trial = Trial(**result["trial"])
    result |= {"trial_id": trial.trial_id, "cell_id": trial.cell_id}
    file.unlink()
    file.with_name(f"{trial.trial_id}.json").write_text(json.dumps(record | {"result_digest": digest(result)}))
