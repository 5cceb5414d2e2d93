import re
import subprocess

import torch
import transformers

from vqmae_hf.experiments import environment
from vqmae_hf.experiments.environment import describe_environment, git_commit


def test_the_environment_names_versions_and_machine():
    found = describe_environment()
    assert found["versions"]["transformers"] == transformers.__version__
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["threads"] == torch.get_num_threads()
    assert found["device"]


def test_the_commit_is_that_of_the_checkout_or_none(monkeypatch, tmp_path):
    assert git_commit() is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", git_commit())
    package = tmp_path / "vqmae_hf" / "experiments"
    package.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    assert git_commit() is None  # no repository
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert git_commit() is None  # one that does not hold the package


def test_changed_files_are_told(monkeypatch, tmp_path):
    package = tmp_path / "vqmae_hf" / "experiments"
    package.mkdir(parents=True)
    version = tmp_path / "vqmae_hf" / "version.py"
    version.write_text("", encoding="utf-8")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    clean = git_commit()
    assert re.fullmatch("[0-9a-f]{40}", clean)
    version.write_text("x", encoding="utf-8")
    assert git_commit() == f"{clean}+changes"
