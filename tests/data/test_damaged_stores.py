"""A store with a damaged manifest or shard is refused by a typed error that names the file, and nothing else happens."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from vqmae_hf.data.latent_store import load_latent_store
from vqmae_hf.data.shards import DamagedStoreError, IncompleteStoreError, ShardPlan, close_folder
from vqmae_hf.data.token_store import load_token_store

ROWS, PER_SHARD = 6, 2
LOADERS = {"token_store": load_token_store, "latent_store": load_latent_store}

every_kind = pytest.mark.parametrize("kind", list(LOADERS))
cut_anywhere = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def write_store(folder, kind):
    """A whole store of made-up codes in three shards, without a tokenizer; returns its files."""
    record = {"fingerprint": "0" * 32, "codes_per_step": [4]}
    more = {"codebook_size": 16} if kind == "token_store" else {"code_dim": 2, "precision": "float16"}
    parameters = {
        "tokenizers": {"audio": {**record, **more}, "visual": None},
        "sampling_rate": 16000,
        "hop_length": 320,
        "frames_per_second": 25,
    }
    suffix = "parquet" if kind == "token_store" else "arrow"
    plan = ShardPlan(kind, suffix, ROWS, PER_SHARD, "inputs", parameters)
    folder.mkdir(exist_ok=True)
    for number, path in enumerate(plan.paths(folder)):
        table = pa.table(
            {"clip_id": [f"{number}-{row}" for row in range(PER_SHARD)], "audio_codes": [[1, 2]] * PER_SHARD}
        )
        if suffix == "parquet":
            parquet.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    close_folder(folder, plan, {"num_clips": ROWS, "num_spectra": 9, "num_frames": 0, "speakers": ["a", "b"]})
    return folder / f"{kind}.json", plan.paths(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@every_kind
def test_a_whole_store_opens(kind, tmp_path):
    write_store(tmp_path / "store", kind)
    assert len(LOADERS[kind](tmp_path / "store")) == ROWS


@every_kind
@cut_anywhere
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_manifest_is_named(kind, tmp_path, share):
    manifest, _ = write_store(tmp_path / "store", kind)
    content = manifest.read_text().rstrip()
    manifest.write_text(content[: int(share * len(content))])
    with pytest.raises(DamagedStoreError, match=manifest.name):
        LOADERS[kind](tmp_path / "store")


def paths_to_values(content, prefix=()):
    """The keys to every value of nested objects."""
    for key, value in content.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths_to_values(value, (*prefix, key))


@every_kind
@cut_anywhere
@given(data=st.data())
def test_a_manifest_with_a_value_of_another_type_is_named(kind, tmp_path, data):
    manifest, _ = write_store(tmp_path / "store", kind)
    content = json.loads(manifest.read_text())
    free = {("plan", "parameters", "tokenizers", "audio", name) for name in ("codebook_size", "code_dim", "precision")}
    path = data.draw(st.sampled_from([path for path in paths_to_values(content) if path not in free]))
    *parents, last = path
    inner = content
    for key in parents:
        inner = inner[key]
    values = [value for value in (3, "text", [1.5], {"a": 1}, False) if type(value) is not type(inner[last])]
    inner[last] = data.draw(st.sampled_from(values))
    manifest.write_text(json.dumps(content))
    with pytest.raises((DamagedStoreError, IncompleteStoreError), match="store"):
        LOADERS[kind](tmp_path / "store")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"complete"', '{"complete": 1}', "{}"])
@every_kind
def test_other_json_is_no_manifest(kind, tmp_path, content):
    manifest, _ = write_store(tmp_path / "store", kind)
    manifest.write_text(content)
    with pytest.raises(DamagedStoreError, match=manifest.name):
        LOADERS[kind](tmp_path / "store")


@every_kind
@pytest.mark.parametrize("number", [0, 2])
def test_a_missing_shard_is_named(kind, tmp_path, number):
    _, shards = write_store(tmp_path / "store", kind)
    shards[number].unlink()
    with pytest.raises(FileNotFoundError, match=shards[number].name):
        LOADERS[kind](tmp_path / "store")


@every_kind
@pytest.mark.parametrize("number", [0, 1])
def test_a_shard_cut_in_half_is_named(kind, tmp_path, number):
    _, shards = write_store(tmp_path / "store", kind)
    content = shards[number].read_bytes()
    shards[number].write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedStoreError, match=shards[number].name):
        LOADERS[kind](tmp_path / "store")
