"""The optimizers that Trainer does not make: what gets which learning rate, and which parameters Muon moves."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_train_vqmae import finetune_arguments, pretrain_arguments

from vqmae_hf import VQMAEConfig, VQMAEForAudioVisualClassification, VQMAEForPreTraining
from vqmae_hf.training import finetune, pretrain
from vqmae_hf.training.optimizers import MuonWithOthers, block_matrices, make_optimizer

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")


@pytest.fixture(scope="module")
def start(world, tmp_path_factory):
    return str(pretrain.run(pretrain_arguments(world, tmp_path_factory.mktemp("start"))).output_dir)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VQMAEForAudioVisualClassification(VQMAEConfig.from_preset("tiny", classifier_pooling="query2emo"))


def draw_gradients(model):
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def values_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_the_learning_rate_falls_towards_the_input(world, tmp_path, start):
    model = VQMAEForAudioVisualClassification.from_pretrained(start)
    args = finetune_arguments(world, tmp_path, layer_decay=0.5, learning_rate=0.1)
    optimizer = make_optimizer(model, args, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    top = model.config.num_hidden_layers + 2
    assert rates[id(named["classifier.weight"])] == pytest.approx(0.1)
    assert rates[id(named["model.embeddings.codes.audio.weight"])] == pytest.approx(0.1 * 0.5**top)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
        p.requires_grad for p in model.parameters()
    )
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, args.weight_decay}
    arguments = finetune_arguments(world, tmp_path / "run", pretrained=start, model_overrides=None, layer_decay=0.5)
    assert np.isfinite(finetune.run(arguments).metrics["validation"]["loss"])


def test_the_matrices_of_blocks_are_attention_and_mlp_alone(model):
    for network in (model, VQMAEForPreTraining(VQMAEConfig.from_preset("tiny", encoder_fusion="cross"))):
        matrices = block_matrices(network)
        named = dict(network.named_parameters())
        assert {named[name].ndim for name in matrices} == {2}
        others = {name for name in named if name not in matrices and named[name].ndim == 2}
        assert not [name for name in others if ".attention." in name and name.endswith("weight")]
        assert not [name for name in matrices if name.endswith(("output.weight", "classifier.weight"))]
        assert not [name for name in matrices if "heads" in name or "codes" in name or "positions" in name]
        of_layers = {name for name in named if ".layers." in name and named[name].ndim == 2}
        assert of_layers
        assert of_layers <= matrices


def test_trainer_makes_its_own_where_nothing_is_asked_for(model, world, tmp_path):
    assert make_optimizer(model, finetune_arguments(world, tmp_path)) is None


@needs_muon
def test_muon_turns_matrices_in_all_directions_alike_and_adamw_moves_the_rest(model, world, tmp_path):
    args = finetune_arguments(world, tmp_path, learning_rate=0.01, weight_decay=0.0)
    twin, before = copy.deepcopy(model), values_of(model)
    draw_gradients(model)
    draw_gradients(twin)
    make_optimizer(model, args, muon=True).step()
    options = {"lr": 0.01, "betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon, "weight_decay": 0.0}
    torch.optim.AdamW(twin.parameters(), **options).step()
    after, plain, matrices = values_of(model), values_of(twin), block_matrices(model)
    for name in before:
        if name not in matrices:
            torch.testing.assert_close(after[name], plain[name])
            continue
        step = (before[name] - after[name]) / (0.01 * 0.2 * max(before[name].shape) ** 0.5)
        singular = torch.linalg.svdvals(step)
        # All but the smallest few; those of the gradient go down to nothing.
        assert singular.quantile(0.1) > 0.5, name
        assert singular.max() < 1.4, name


@needs_muon
def test_a_scheduler_reaches_both_and_layers_have_their_rates(model, world, tmp_path):
    args = finetune_arguments(world, tmp_path, learning_rate=0.1)
    optimizer = make_optimizer(model, args, layer_decay=0.5, muon=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    draw_gradients(model)
    optimizer.step()
    scheduler.step()
    rates = {
        id(p): g["lr"] for part in (optimizer.muon, optimizer.others) for g in part.param_groups for p in g["params"]
    }
    named = dict(model.named_parameters())
    top = model.config.num_hidden_layers + 2
    assert rates[id(named["classifier.output.weight"])] == pytest.approx(0.05)
    assert rates[id(named["model.encoder.layers.0.blocks.joint.mlp.fc1.weight"])] == pytest.approx(
        0.05 * 0.5 ** (top - 2)
    )
    assert rates.keys() == {id(p) for p in model.parameters()}


@needs_muon
def test_a_saved_state_goes_on_as_if_nothing_had_been(model, world, tmp_path):
    args = finetune_arguments(world, tmp_path, learning_rate=0.01)
    optimizer = make_optimizer(model, args, muon=True)
    draw_gradients(model)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    twin = copy.deepcopy(model)
    resumed = make_optimizer(twin, args, muon=True)
    resumed.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for group in resumed.param_groups:  # as a scheduler does, after loading
        group["lr"] = 0.003
    for group in optimizer.param_groups:
        group["lr"] = 0.003
    for network, its in ((model, optimizer), (twin, resumed)):
        draw_gradients(network)
        assert its.step(lambda: 7.0) == 7.0
    for name, value in values_of(model).items():
        assert torch.equal(values_of(twin)[name], value), name


@needs_muon
def test_pretraining_and_finetuning_take_it(world, start, tmp_path):
    plain = load_file(f"{start}/model.safetensors")
    result = pretrain.run(pretrain_arguments(world, tmp_path / "pretrained", muon=True))
    changed = load_file(result.output_dir / "model.safetensors")
    name = "model.encoder.layers.0.blocks.joint.mlp.fc1.weight"
    assert not torch.equal(plain[name], changed[name])
    assert np.isfinite(result.metrics["validation"]["loss"])
    arguments = finetune_arguments(
        world, tmp_path / "tuned", pretrained=str(result.output_dir), model_overrides=None, muon=True
    )
    assert np.isfinite(finetune.run(arguments).metrics["validation"]["loss"])


@pytest.mark.parametrize("options", [{"muon": True}, {"layer_decay": 0.5}])
def test_fsdp_is_refused(options, model, world, tmp_path, monkeypatch):
    args = finetune_arguments(world, tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP gives every process a part; set muon to false and layer_decay to 1"):
        make_optimizer(model, args, **options)


def test_an_old_torch_and_lora_are_refused(world, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="lora_rank and muon exclude each other"):
        finetune_arguments(world, tmp_path, muon=True, lora_rank=2)
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"muon needs torch 2\.9 or newer, this is"):
        pretrain_arguments(world, tmp_path, muon=True)


@needs_muon
def test_without_any_matrix_to_move_the_other_optimizer_is_left(model, world, tmp_path):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier.output"))
    optimizer = make_optimizer(model, finetune_arguments(world, tmp_path), muon=True)
    assert not isinstance(optimizer, MuonWithOthers)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
