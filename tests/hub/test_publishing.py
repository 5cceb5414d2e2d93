"""What a publication leaves on the server: everything in one commit, or an account of what failed and nothing unseen."""

import json
import re

import pytest
import small_models
from huggingface_hub import HfApi
from local_hub import Failure

from vqmae_hf.hub import PublishingError, push_checkpoint
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.training.finetune import RESULTS_NAME
from vqmae_hf.training.stages import ARGUMENTS_NAME, METRICS_NAME, TRAINING_ARGUMENTS_NAME

# How huggingface_hub hands large files to httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "tester/voice"
SHARDED = "4KB"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tokenizer as its training program leaves it, with what must not be published."""
    folder = tmp_path_factory.mktemp("checkpoint")
    small_models.audio_tokenizer().save_pretrained(folder)
    AudioVQVAEFeatureExtractor(n_fft=128).save_pretrained(folder)
    (folder / ARGUMENTS_NAME).write_text(json.dumps({"corpus": "ravdess", "corpus_root": "/home/anna/RAVDESS"}))
    (folder / TRAINING_ARGUMENTS_NAME).write_text(json.dumps({"learning_rate": 0.001, "output_dir": "/home/anna/run"}))
    (folder / METRICS_NAME).write_text(json.dumps({"validation": {"reconstruction_loss": 1.25, "runtime": 3.0}}))
    for name in ("training_args.bin", "optimizer.pt", "log_history.jsonl"):
        (folder / name).write_text("not for others")
    return folder


def commits(hub, repo_id=REPO, ref="main"):
    return [commit.title for commit in hub.model(repo_id).refs[ref].history()]


def test_everything_goes_in_one_commit_and_nothing_else_goes(hub, checkpoint):
    publication = push_checkpoint(checkpoint, REPO)
    assert commits(hub) == ["Upload audio tokenizer", "initial commit"]
    there = set(hub.model(REPO).files) - {".gitattributes"}
    assert there == set(publication.repository.files)
    assert {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "modeling_audio_vqvae.py",
    } <= there
    assert {ARGUMENTS_NAME, TRAINING_ARGUMENTS_NAME, METRICS_NAME} <= there
    assert not there & {"training_args.bin", "optimizer.pt", "log_history.jsonl"}
    assert publication.url == f"{hub.url}/{REPO}/commit/{hub.model(REPO).refs['main'].sha}"
    assert not publication.repository.folder.exists(), "the temporary folder stays"
    assert not hub.model(REPO).private


def test_no_file_tells_where_the_training_ran(hub, checkpoint):
    push_checkpoint(checkpoint, REPO)
    for path, file in hub.model(REPO).files.items():
        assert b"anna" not in file.content, path
    assert json.loads(hub.model(REPO).files[ARGUMENTS_NAME].content)["corpus_root"] == "RAVDESS"


def test_a_dry_run_writes_the_folder_lists_it_and_asks_the_server_nothing(hub, checkpoint, tmp_path):
    publication = push_checkpoint(checkpoint, REPO, dry_run=True, output_dir=tmp_path / "folder")
    assert hub.requests == []
    assert publication.url is None
    files = {path.name: path.stat().st_size for path in (tmp_path / "folder").iterdir()}
    assert publication.repository.files == files
    lines = publication.listing.splitlines()
    assert lines[0].endswith("README.md")
    assert len([line for line in lines if not line.startswith("note: ")]) == len(files) + 1
    assert "no licence was stated" in publication.listing
    assert push_checkpoint(checkpoint, REPO, dry_run=True).repository.folder.is_dir()
    with pytest.raises(ValueError, match="not an empty folder; choose a new one"):
        push_checkpoint(checkpoint, REPO, dry_run=True, output_dir=tmp_path / "folder")


def test_a_name_without_owner_is_ones_own_and_private_is_for_no_one_else(hub, checkpoint):
    publication = push_checkpoint(checkpoint, "voice", private=True)
    assert publication.repo_id == REPO
    assert hub.model(REPO).private
    with pytest.raises(OSError, match="404"):
        HfApi(token="stranger-token").model_info(REPO)
    with pytest.raises(ValueError, match=r"is private, but private=False was asked for.*Nothing was uploaded"):
        push_checkpoint(checkpoint, REPO, private=False)
    assert len(commits(hub)) == 2


def test_a_branch_is_made_and_a_pull_request_opened_by_who_may_not_write(hub, checkpoint, monkeypatch):
    push_checkpoint(checkpoint, REPO)
    publication = push_checkpoint(checkpoint, REPO, revision="v2", max_shard_size=SHARDED)
    assert publication.revision == "v2"
    assert "model.safetensors" in hub.model(REPO).files
    assert "model.safetensors.index.json" in hub.model(REPO).refs["v2"].files
    monkeypatch.setenv("HF_TOKEN", "stranger-token")
    request = push_checkpoint(checkpoint, REPO, create_pr=True, max_shard_size=SHARDED, commit_message="In parts")
    assert request.revision == "refs/pr/1"
    assert request.url == f"{hub.url}/{REPO}/discussions/1"
    assert commits(hub, ref="refs/pr/1")[0] == "In parts"
    assert len(commits(hub)) == 2
    push_again = push_checkpoint(checkpoint, REPO, token="tester-token", revision="refs/pr/1")
    assert "model.safetensors.index.json" in push_again.deleted
    for repo_id in (REPO, "tester/new"):
        with pytest.raises(ValueError, match=r"no such pull request; pass create_pr=True"):
            push_checkpoint(checkpoint, repo_id, token="tester-token", revision="refs/pr/7")
    assert list(hub.repositories) == [("models", REPO)]


def test_what_would_be_loaded_in_place_of_the_new_weights_goes(hub, checkpoint):
    push_checkpoint(checkpoint, REPO)
    for path in ("handler.py", "onnx/model.safetensors"):
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo=path, repo_id=REPO)
    publication = push_checkpoint(checkpoint, REPO, max_shard_size=SHARDED)
    assert publication.deleted == ("model.safetensors",)
    shards = [path for path in hub.model(REPO).files if path.startswith("model-")]
    assert len(shards) > 1
    assert hub.model(REPO).files["handler.py"].content == b"mine"
    assert hub.model(REPO).files["onnx/model.safetensors"].content == b"mine"
    assert "deleted: model.safetensors" in publication.listing
    assert set(push_checkpoint(checkpoint, REPO).deleted) == {*shards, "model.safetensors.index.json"}


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure("POST", "/repos/create", status=500), "the server said 500"),
        (Failure("POST", "/preupload/", status=500), "the server said 500"),
        (Failure("PUT", "/lfs/", status=500), "the server said 500"),
        (Failure("PUT", "/lfs/"), r"Disconnected|Error"),
        (Failure("PUT", "/lfs/", mid_body=True), r"Error"),
        (
            Failure("POST", "/objects/batch", status=403, message="Private repository storage limit reached"),
            "limit reached",
        ),
        (Failure("POST", "/commit/", status=413, message="Payload too large"), "Payload too large"),
        (Failure("POST", "/commit/"), r"Disconnected|Error"),
        (Failure("POST", "/validate-yaml", status=500), "the server said 500"),
    ],
    ids=lambda value: f"{value.method} {value.path} {value.status or 'dropped'}" if isinstance(value, Failure) else "",
)
def test_a_failed_upload_leaves_nothing_behind_and_a_repeat_goes_through(hub, checkpoint, failure, told, tmp_path):
    hub.fail(failure)
    with pytest.raises(PublishingError, match=told) as failed:
        push_checkpoint(checkpoint, REPO, private=True, output_dir=tmp_path / "folder")
    assert hub.repositories == {}, "an empty repository stays"
    assert (failed.value.is_published, failed.value.files_on_server, failed.value.repository_exists) == (
        False,
        None,
        False,
    )
    assert re.search("removed again|There is no repository", str(failed.value))
    assert re.search("epeat", str(failed.value)), "what to do"
    hub.fail()
    push_checkpoint(checkpoint, REPO, private=True, output_dir=tmp_path / "folder")
    assert set(hub.model(REPO).files) == {".gitattributes", *(path.name for path in (tmp_path / "folder").iterdir())}


def test_what_arrived_before_the_failure_is_not_uploaded_again(hub, checkpoint):
    hub.fail(Failure("PUT", "/lfs/", status=403, message="storage limit", skip=1))
    with pytest.raises(PublishingError, match="storage limit"):
        push_checkpoint(checkpoint, REPO, max_shard_size=SHARDED)
    arrived = len(hub.lfs)
    assert arrived >= 1
    hub.fail()
    hub.requests.clear()
    push_checkpoint(checkpoint, REPO, max_shard_size=SHARDED)
    uploads = [request for request in hub.requests if request.startswith("PUT /lfs/")]
    assert len(uploads) == len(hub.lfs) - arrived


def test_a_failure_leaves_what_was_published_before_as_it_was(hub, checkpoint):
    push_checkpoint(checkpoint, REPO)
    before = hub.model(REPO).refs["main"].sha
    hub.fail(Failure("POST", "/commit/", status=500))
    with pytest.raises(PublishingError, match=r"is as it was before, with \d+ files: nothing") as failed:
        push_checkpoint(checkpoint, REPO, max_shard_size=SHARDED)
    assert hub.model(REPO).refs["main"].sha == before
    assert "model.safetensors" in failed.value.files_on_server
    with pytest.raises(PublishingError, match="branch v2, made by this attempt, was removed"):
        push_checkpoint(checkpoint, REPO, revision="v2", max_shard_size=SHARDED)
    assert set(hub.model(REPO).refs) == {"main"}


@pytest.mark.parametrize("options", [{}, {"revision": "v2"}, {"create_pr": True}])
def test_a_lost_answer_is_told_from_a_lost_upload(hub, checkpoint, options):
    hub.fail(Failure("POST", "/commit/", after_work=True, times=1))
    with pytest.raises(PublishingError, match=r"only the answer got lost\. Nothing is left to do") as failed:
        push_checkpoint(checkpoint, REPO, **options)
    assert failed.value.is_published
    ref = "refs/pr/1" if "create_pr" in options else options.get("revision", "main")
    assert "model.safetensors" in hub.model(REPO).refs[ref].files


def test_a_repository_whose_making_was_not_answered_is_removed(hub, checkpoint):
    hub.fail(Failure("POST", "/repos/create", after_work=True, times=1))
    with pytest.raises(PublishingError, match="made by this attempt, was removed again"):
        push_checkpoint(checkpoint, REPO)
    assert hub.repositories == {}


def test_what_could_not_be_removed_is_named_with_the_way_to_do_it(hub, checkpoint):
    hub.fail(Failure("POST", "/commit/", status=500), Failure("DELETE", "/repos/delete", status=403))
    with pytest.raises(PublishingError, match=rf"{REPO}, made by this attempt, is still there.*hf repo delete {REPO}"):
        push_checkpoint(checkpoint, REPO)
    assert list(hub.model(REPO).files) == [".gitattributes"]
    hub.fail()
    push_checkpoint(checkpoint, REPO)
    assert len(commits(hub)) == 2


def test_a_server_that_is_gone_is_said_to_be(hub, checkpoint):
    hub.fail(*(Failure(method, "/") for method in ("GET", "POST", "PUT", "DELETE")))
    with pytest.raises(PublishingError, match=r"does not answer .*not known.*all files .* or none") as failed:
        push_checkpoint(checkpoint, REPO)
    assert failed.value.repository_exists is None


def test_an_interrupted_upload_is_cleaned_up(hub, checkpoint, monkeypatch, caplog):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vqmae_hf.hub.upload.HfApi.create_commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        push_checkpoint(checkpoint, REPO)
    assert hub.repositories == {}
    assert "was removed again" in caplog.text


def test_who_may_not_write_is_told_so(hub, checkpoint, monkeypatch):
    push_checkpoint(checkpoint, REPO)
    monkeypatch.setenv("HF_TOKEN", "stranger-token")
    with pytest.raises(PublishingError, match=r"403 .*write access.*Use a token that may write there"):
        push_checkpoint(checkpoint, REPO)
    monkeypatch.setenv("HF_TOKEN", "no-such-token")
    with pytest.raises(PublishingError, match="hf auth login"):
        push_checkpoint(checkpoint, "tester/other")
    assert list(hub.repositories) == [("models", REPO)]


def test_what_is_no_whole_checkpoint_is_refused_before_anything_is_sent(hub, tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r"has no config.json; pass a folder"):
        push_checkpoint(tmp_path, REPO)
    config = small_models.vqmae_config()
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found a configuration alone, accepted are checkpoints of AudioVQVAEModel"):
        push_checkpoint(tmp_path, REPO)
    settings = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="no weights in safetensors"):
        push_checkpoint(tmp_path, REPO)
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "num_residual_layers": 2}))
    with pytest.raises(ValueError, match=r"not those of a AudioVQVAEModel .*missing keys"):
        push_checkpoint(tmp_path, REPO)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad.json cannot be read as JSON"):
        push_checkpoint(checkpoint, REPO, results=tmp_path / "bad.json")
    (tmp_path / METRICS_NAME).write_text("{}")
    with pytest.raises(ValueError, match=f"already has a file {METRICS_NAME}"):
        push_checkpoint(checkpoint, REPO, results=[tmp_path / METRICS_NAME])
    with pytest.raises(ValueError, match="Repo id must"):
        push_checkpoint(checkpoint, "tester/a/b")
    assert hub.requests == []
    assert RESULTS_NAME not in {path.name for path in checkpoint.iterdir()}
