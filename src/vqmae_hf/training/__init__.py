"""The training programs, one per stage, on `transformers.Trainer`: arguments, recipes, data, the loop and its files."""
