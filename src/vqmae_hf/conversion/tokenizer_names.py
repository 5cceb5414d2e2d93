"""What the authors call the parameters of their tokenizers ([AV], [S], [MD]), and what we call them."""

from vqmae_hf.conversion.renaming import KeyMap

QUANTIZER_KEYS: KeyMap = (
    (r"_?vq_vae\._embedding\.weight", "quantizer.codebook"),
    (r"_?vq_vae\._ema_cluster_size", "quantizer.cluster_size"),
    (r"_?vq_vae\._ema_w", "quantizer.embedding_sum"),
    (r"_?pre_vq_conv\.(\w+)", r"encoder.projection.\1"),
)
RESIDUAL_KEYS: KeyMap = (
    (r"_?(encoder|decoder)\._?residual_stack\._?layers\.(\d+)\._?block\.1\.(\w+)", r"\1.residual_layers.\2.conv.\3"),
    (
        r"_?(encoder|decoder)\._?residual_stack\._?layers\.(\d+)\._?block\.3\.(\w+)",
        r"\1.residual_layers.\2.projection.\3",
    ),
)
AUDIO_VQVAE_KEYS: KeyMap = (
    *QUANTIZER_KEYS,
    *RESIDUAL_KEYS,
    (r"_encoder\._conv_1\.(\w+)", r"encoder.convs.0.\1"),
    (r"_encoder\._conv_2\.(\w+)", r"encoder.convs.1.\1"),
    (r"_encoder\._conv_3\.(\w+)", r"encoder.convs.2.\1"),
    (r"_encoder\.norm1\.(\w+)", r"encoder.norms.0.\1"),
    (r"_encoder\.norm2\.(\w+)", r"encoder.norms.1.\1"),
    (r"_encoder\.norm3\.(\w+)", r"encoder.norms.2.\1"),
    (r"_decoder\._conv_1\.(\w+)", r"decoder.conv.\1"),
    (r"_decoder\._conv_trans_1\.(\w+)", r"decoder.transposed_convs.0.\1"),
    (r"_decoder\._conv_trans_2_bis\.(\w+)", r"decoder.transposed_convs.1.\1"),
    (r"_decoder\._conv_trans_2\.(\w+)", r"decoder.output.\1"),
    (r"_decoder\.norm1_dec\.(\w+)", r"decoder.norms.0.\1"),
    (r"_decoder\.norm2_dec\.(\w+)", r"decoder.norms.1.\1"),
)


def visual_vqvae_keys(num_downsampling_layers: int) -> KeyMap:
    """The key map of a visual tokenizer with 2 ([AV]) or 3 ([MD]: the layers called `_add`) down-sampling layers."""
    last = num_downsampling_layers - 1
    return (
        *QUANTIZER_KEYS,
        *RESIDUAL_KEYS,
        (r"_?encoder\._?conv_1\.(\w+)", r"encoder.downsampling.0.\1"),
        (r"_?encoder\._?conv_2\.(\w+)", r"encoder.downsampling.1.\1"),
        (r"_?encoder\._?conv_2_add\.(\w+)", r"encoder.downsampling.2.\1"),
        (r"_?encoder\._?conv_3\.(\w+)", r"encoder.conv.\1"),
        (r"_?decoder\._?conv_1\.(\w+)", r"decoder.conv.\1"),
        (r"_?decoder\._?conv_trans_1\.(\w+)", r"decoder.upsampling.0.\1"),
        (r"_?decoder\._?conv_trans_2_add\.(\w+)", r"decoder.upsampling.1.\1"),
        (r"_?decoder\._?conv_trans_2\.(\w+)", rf"decoder.upsampling.{last}.\1"),
    )
