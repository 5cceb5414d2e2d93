"""The study of an MDVAE on the synthetic corpus: what its latents tell, and what can be done with them."""
