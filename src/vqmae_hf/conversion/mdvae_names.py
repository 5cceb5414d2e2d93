"""What the authors call the parameters of their MDVAE ([MD]), and what we call them."""

from vqmae_hf.conversion.renaming import KeyMap

RECURRENCE = r"(weight|bias)_(ih|hh)_l0"
# Our latent, the part of their layers' names that says which, their recurrence, and how they order "prior" and "mean".
LATENTS = (
    ("z_av", "zds", "rnn_zds", r"inf_zds_(mean|logvar)_prior"),
    ("z_a", "zaudio", "rnn_z_audio", r"inf_zaudio_prior_(mean|logvar)"),
    ("z_v", "zvisual", "rnn_z_visual", r"inf_zvisual_prior_(mean|logvar)"),
)


def dynamic_latent_keys() -> KeyMap:
    """The key map of recurrence, posterior and prior of the three dynamic latents."""
    keys: list[tuple[str, str]] = []
    for ours, theirs, recurrence, prior_head in LATENTS:
        prefix = f"dynamic_latents.{ours}."
        keys += [
            (rf"{recurrence}\.{RECURRENCE}", rf"{prefix}history.\1_\2"),
            (rf"mlp_{theirs}\.Linear1_{theirs}\.(\w+)", rf"{prefix}posterior.hidden.layers.0.\1"),
            (rf"mlp_{theirs}\.Linear2_{theirs}\.(\w+)", rf"{prefix}posterior.hidden.layers.1.\1"),
            (rf"mlp_{theirs}_prior\.Linear1_{theirs}_prior\.(\w+)", rf"{prefix}prior.hidden.layers.0.\1"),
            (rf"inf_{theirs}_(mean|logvar)\.(\w+)", rf"{prefix}posterior.\1.\2"),
            (rf"{prior_head}\.(\w+)", rf"{prefix}prior.\1.\2"),
        ]
    return tuple(keys)


MDVAE_KEYS: KeyMap = (
    (r"visual_features\.Layer1_V_en\.(\w+)", r"visual_embedding.layers.0.\1"),
    (r"visual_features\.Layer2_V_en\.(\w+)", r"visual_embedding.layers.1.\1"),
    (rf"bi_rnn_zss\.{RECURRENCE}_reverse", r"static_latent.backward_history.\1_\2"),
    (rf"bi_rnn_zss\.{RECURRENCE}", r"static_latent.forward_history.\1_\2"),
    (r"mlp_zss\.Linear1_zss\.(\w+)", r"static_latent.posterior.hidden.layers.0.\1"),
    (r"inf_zss_(mean|logvar)\.(\w+)", r"static_latent.posterior.\1.\2"),
    *dynamic_latent_keys(),
    (r"de_mlp\.Linear1_DecA\.(\w+)", r"decoders.audio.hidden.layers.0.\1"),
    (r"de_mlp\.Linear2_DecA\.(\w+)", r"decoders.audio.hidden.layers.1.\1"),
    (r"de_mlp\.Linear3_DecA\.(\w+)", r"decoders.audio.output.\1"),
    (r"cnn_transpose\.Layer1_V_dec\.(\w+)", r"decoders.visual.hidden.layers.0.\1"),
    (r"cnn_transpose\.Layer2_V_dec\.(\w+)", r"decoders.visual.hidden.layers.1.\1"),
    (r"cnn_transpose\.Linear3_DecA\.(\w+)", r"decoders.visual.output.\1"),
)
