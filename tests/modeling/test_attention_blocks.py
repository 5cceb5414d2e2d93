"""The transformer's parts against torch's own attention and against the formulas of the design."""

import pytest
import torch
from small_models import build, random_codes, seeded, vqmae_config
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vqmae_hf.modeling.attention_blocks import (
    VQMAEMLP,
    FusionTransformer,
    GlobalPooling,
    ModalityFusion,
    TransformerBlock,
    VQMAECrossAttention,
    VQMAESelfAttention,
    bfloat16_attention,
    block_diagonal,
)
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
from vqmae_hf.modeling.query2emo import Query2Emo

WIDTH, HEADS = 32, 4
BOTH_IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def make_config(implementation: str = "sdpa", **overrides) -> VQMAEConfig:
    config = vqmae_config(**overrides)
    config._attn_implementation = implementation
    return config


def randomized(module: nn.Module) -> nn.Module:
    """Nothing at a value that hides a mistake: no zero bias, no norm at the identity, no empty parameter."""
    with torch.no_grad():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return module.eval()


def torch_attention(ours: VQMAESelfAttention | VQMAECrossAttention) -> nn.MultiheadAttention:
    """torch's multi-head attention with the weights of ours."""
    theirs = nn.MultiheadAttention(WIDTH, ours.num_heads, batch_first=True).eval()
    with torch.no_grad():
        if isinstance(ours, VQMAESelfAttention):
            theirs.in_proj_weight.copy_(ours.qkv.weight)
            theirs.in_proj_bias.zero_()
        else:
            parts = (ours.query, ours.key, ours.value)
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.projection.state_dict())
    return theirs


# ---- attention ----


@BOTH_IMPLEMENTATIONS
def test_self_attention_is_that_of_torch_without_biases(implementation):
    ours = randomized(VQMAESelfAttention(make_config(implementation), HEADS))
    hidden = torch.randn(2, 5, WIDTH)
    expected, weights = torch_attention(ours)(hidden, hidden, hidden, average_attn_weights=False)
    attended, found = ours(hidden)
    torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-5)
    assert (found is None) == (implementation == "sdpa")
    if found is not None:
        torch.testing.assert_close(found, weights, rtol=1e-4, atol=1e-5)


@BOTH_IMPLEMENTATIONS
@pytest.mark.parametrize("masked", [True, False])
def test_cross_attention_is_that_of_torch_with_biases(implementation, masked):
    ours = randomized(VQMAECrossAttention(make_config(implementation), HEADS))
    queries, keys = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[True, True, False, True, False], [True] * 5]) if masked else None
    padding = ~mask if masked else None
    expected, _ = torch_attention(ours)(queries, keys, keys, key_padding_mask=padding, need_weights=False)
    torch.testing.assert_close(ours(queries, keys, mask)[0], expected, rtol=1e-4, atol=1e-5)


@BOTH_IMPLEMENTATIONS
def test_a_clip_without_any_real_key_gets_the_output_bias_alone(implementation):
    attention = randomized(VQMAECrossAttention(make_config(implementation), HEADS))
    queries, keys = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[False] * 5, [True] * 5])
    attended = attention(queries, keys, mask)[0]
    torch.testing.assert_close(attended[0], attention.projection.bias.expand(3, -1))
    torch.testing.assert_close(attended[1], attention(queries[1:], keys[1:])[0][0], rtol=1e-4, atol=1e-5)
    no_keys = attention(queries, keys[:, :0])[0]
    torch.testing.assert_close(no_keys, attention.projection.bias.expand(2, 3, -1))


@BOTH_IMPLEMENTATIONS
def test_dropout_of_attention_is_for_training_only(implementation):
    attention = randomized(VQMAECrossAttention(make_config(implementation), HEADS, dropout=0.5))
    queries, keys = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    assert torch.equal(attention(queries, keys)[0], attention(queries, keys)[0])
    attention.train()
    assert not torch.equal(attention(queries, keys)[0], attention(queries, keys)[0])


# ---- blocks ----


def test_a_block_normalises_first_and_adds_what_it_computes():
    block = randomized(TransformerBlock(make_config(), HEADS))
    x = torch.randn(2, 5, WIDTH)
    hidden = x + block.attention(block.attention_norm(x))[0]
    mlp = block.mlp
    expected = hidden + mlp.fc2(F.gelu(mlp.fc1(block.mlp_norm(hidden))))
    torch.testing.assert_close(block(x)[0], expected)
    assert mlp.fc1.out_features == 2 * WIDTH


def test_training_keeps_less_and_repeats_no_product():
    """Both layers forward and backward cost three times their forward; of the wide hidden layer one tensor is kept."""
    mlp, norm = randomized(VQMAEMLP(make_config())), torch.nn.LayerNorm(WIDTH)
    x = torch.randn(2, 5, WIDTH, requires_grad=True)
    kept = []
    keep = torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t)
    with FlopCounterMode(display=False) as flops, keep:
        mlp(x, norm).sum().backward()
    assert flops.get_total_flops() == 3 * 2 * (2 * 10 * WIDTH * 2 * WIDTH)
    assert kept.count(10 * 2 * WIDTH) == 1
    found = x.grad
    x.grad = None
    mlp.fc2(F.gelu(mlp.fc1(norm(x)))).sum().backward()
    torch.testing.assert_close(found, x.grad)


def test_modality_fusion_has_no_norm_on_the_way_in():
    fusion = randomized(ModalityFusion(make_config(), HEADS))
    x, both = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    attended = torch_attention(fusion.attention)(x, both, both, need_weights=False)[0]
    expected = x + fusion.norm(fusion.mlp(attended))
    torch.testing.assert_close(fusion(x, both, None), expected, rtol=1e-4, atol=1e-5)


def test_global_pooling_asks_with_a_learned_query():
    pooling = randomized(GlobalPooling(make_config()))
    local = torch.randn(2, 5, WIDTH)
    query = pooling.query.expand(2, 1, -1)
    hidden = query + torch_attention(pooling.attention)(query, local, local, need_weights=False)[0]
    expected = (hidden + pooling.norm(pooling.mlp(hidden)))[:, 0]
    torch.testing.assert_close(pooling(local, None), expected, rtol=1e-4, atol=1e-5)
    shuffled = local[:, torch.tensor([3, 1, 4, 0, 2])]
    torch.testing.assert_close(pooling(shuffled, None), expected, rtol=1e-4, atol=1e-5)


def test_attention_maps_of_streams_lie_on_the_diagonal():
    first, second = torch.rand(2, 3, 2, 2), torch.rand(2, 3, 4, 4)
    joint = block_diagonal([first, second])
    for clip in range(2):
        for head in range(3):
            assert torch.equal(joint[clip, head], torch.block_diag(first[clip, head], second[clip, head]))


# ---- the stack ----


def make_stack(fusion: str, final_norm: bool = True, **overrides) -> FusionTransformer:
    stack = FusionTransformer(make_config(**overrides), fusion, 2, HEADS, final_norm)
    return randomized(stack)


SIZES = {"visual": 3, "audio": 4}


def influence(stack: FusionTransformer, sizes: dict[str, int]) -> torch.Tensor:
    """Which output place depends on which input place: (L, L) bool."""
    L = sum(sizes.values())
    hidden = torch.randn(1, L, WIDTH)
    jacobian = torch.autograd.functional.jacobian(lambda x: stack(x, sizes)[0].sum(dim=1), hidden)[:, 0]
    return jacobian.abs().amax(dim=2) > 1e-5


@pytest.mark.parametrize("fusion", ["self", "cross"])
def test_every_tube_of_both_modalities_is_heard_by_every_other(fusion):
    assert influence(make_stack(fusion), SIZES).all()


def test_after_their_cross_attention_modalities_keep_to_themselves():
    stack = make_stack("cross")
    for fusion in stack.modality_fusion.values():  # the only place where they meet
        nn.init.zeros_(fusion.attention.value.weight)
    visual, audio = SIZES["visual"], SIZES["audio"]
    expected = torch.block_diag(torch.ones(visual, visual), torch.ones(audio, audio)).bool()
    assert torch.equal(influence(stack, SIZES), expected)


@pytest.mark.parametrize("fusion", ["self", "cross"])
@pytest.mark.parametrize("final_norm", [True, False])
def test_the_final_norm_closes_the_stack_where_wanted(fusion, final_norm):
    stack = make_stack(fusion, final_norm)
    names = {"self": {"joint"}, "cross": {"visual", "audio"}}[fusion]
    assert set(stack.norms) == (names if final_norm else set())
    hidden = torch.randn(2, 7, WIDTH)
    plain = stack(hidden, SIZES)
    with torch.no_grad():
        for norm in stack.norms.values():
            norm.weight.mul_(2)
            norm.bias.mul_(2)
    changed = stack(hidden, SIZES)
    torch.testing.assert_close(changed, 2 * plain if final_norm else plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion", ["self", "cross"])
@BOTH_IMPLEMENTATIONS
def test_padding_is_as_good_as_absent(fusion, implementation):
    stack = make_stack(fusion)
    stack.config._attn_implementation = implementation
    hidden = torch.randn(2, 7, WIDTH)
    real = torch.tensor([[True] * 7, [True, True, False, True, True, False, False]])
    output = stack(hidden, SIZES, real)
    torch.testing.assert_close(output[0], stack(hidden[:1], SIZES)[0], rtol=1e-4, atol=1e-4)
    alone = stack(hidden[1:, real[1]], {"visual": 2, "audio": 2})
    torch.testing.assert_close(output[1, real[1]], alone[0], rtol=1e-4, atol=1e-4)
    garbage = torch.where(real.unsqueeze(2), hidden, 1e3)
    torch.testing.assert_close(stack(garbage, SIZES, real)[real], output[real])


@pytest.mark.parametrize("fusion", ["self", "cross"])
def test_a_modality_of_size_zero_is_a_modality_that_is_missing(fusion):
    stack = make_stack(fusion)
    hidden = torch.randn(2, 4, WIDTH)
    assert torch.equal(stack(hidden, {"visual": 0, "audio": 4}), stack(hidden, {"audio": 4}))
    nothing = stack(hidden[:, :0], {"visual": 0, "audio": 0})
    assert nothing.shape == (2, 0, WIDTH)


# ---- Query2Emo ----


def torch_query2emo(ours: Query2Emo) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    """torch's post-norm transformer of the design's sizes, with the weights of ours."""
    options = {"d_model": WIDTH, "nhead": 8, "dim_feedforward": 64, "batch_first": True}
    norm = nn.LayerNorm(WIDTH)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**options), 1, norm, enable_nested_tensor=False).eval()
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), 2, nn.LayerNorm(WIDTH)).eval()
    pairs = [(encoder.layers[0], ours.encoder_layer), *zip(decoder.layers, ours.decoder_layers, strict=True)]
    for theirs, layer in pairs:
        theirs.self_attn.load_state_dict(torch_attention(layer.self_attention.attention).state_dict())
        theirs.norm1.load_state_dict(layer.self_attention.norm.state_dict())
        last = theirs.norm2
        if isinstance(theirs, nn.TransformerDecoderLayer):
            theirs.multihead_attn.load_state_dict(torch_attention(layer.cross_attention.attention).state_dict())
            theirs.norm2.load_state_dict(layer.cross_attention.norm.state_dict())
            last = theirs.norm3
        theirs.linear1.load_state_dict(layer.feed_forward.fc1.state_dict())
        theirs.linear2.load_state_dict(layer.feed_forward.fc2.state_dict())
        last.load_state_dict(layer.feed_forward.norm.state_dict())
    encoder.norm.load_state_dict(ours.encoder_norm.state_dict())
    decoder.norm.load_state_dict(ours.decoder_norm.state_dict())
    return encoder, decoder


@BOTH_IMPLEMENTATIONS
@pytest.mark.parametrize("masked", [True, False])
def test_query2emo_is_a_post_norm_transformer_whose_queries_are_the_classes(implementation, masked):
    ours = randomized(Query2Emo(make_config(implementation)))
    local = torch.randn(2, 5, WIDTH)
    real = torch.tensor([[True] * 5, [True, True, False, True, False]]) if masked else None
    padding = ~real if masked else None
    encoder, decoder = torch_query2emo(ours)
    with torch.no_grad():
        memory = encoder(local, src_key_padding_mask=padding)
        queries = decoder(ours.class_queries.expand(2, -1, -1), memory, memory_key_padding_mask=padding)
        expected = ours.output(queries.flatten(1))
        torch.testing.assert_close(ours(local, real), expected, rtol=1e-3, atol=1e-4)


def test_query2emo_drops_out_in_training_only():
    head = randomized(Query2Emo(make_config()))
    local = torch.randn(2, 5, WIDTH)
    assert torch.equal(head(local), head(local))
    head.train()
    assert not torch.equal(head(local), head(local))


def test_attention_of_processors_in_bfloat16_is_that_of_torch():
    query, key, value = (torch.randn(2, 4, length, 8, generator=seeded(length)) for length in (5, 7, 7))
    ours = bfloat16_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), 8**-0.5, 0.0)
    theirs = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs, rtol=0.02, atol=0.02)


def test_training_in_bfloat16_follows_the_curve_of_float32():
    """Twenty steps on one batch: the same losses to 2 %, and both fall."""
    config = vqmae_config(contrastive=False)
    codes, curves = random_codes(config), []
    for enabled in (False, True):
        model = build(VQMAEForPreTraining, config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = model(**codes, mask_ratio=0.5, generator=seeded()).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        curves.append(torch.stack(losses))
    torch.testing.assert_close(curves[1], curves[0], rtol=0.02, atol=0.0)
    assert curves[0][-1] < 0.9 * curves[0][0]
